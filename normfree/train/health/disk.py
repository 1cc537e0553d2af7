"""Notice a disk that fills up while there is room for one more checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

_EARLY = 4.0  # checkpoints that fit: below it, a warning
_LAST = 1.5  # below it, the run saves a last one and ends
_LEAST = 1.05  # below it, there is no use in trying


class DiskSpace:
    """Compares the free space of a directory with what one checkpoint takes.

    A new checkpoint is written before an old one is removed, so that one has to fit at any time.

    Args:
        directory: where checkpoints go.
        needed: bytes of one.
        free: of a directory, the bytes that are free.

    Example:
        >>> disk = DiskSpace(Path("runs"), needed=1000, free=lambda path: 3900)
        >>> print(disk.warning())
        3.9 KB are free in runs, and a checkpoint takes 1.0 KB: make room, or the run will end
        >>> disk.warning() is None, disk.is_full  # once is enough
        (True, False)
    """

    def __init__(
        self, directory: Path, needed: int, free: Callable[[Path], int] | None = None
    ) -> None:
        self.directory = directory
        self.needed = needed
        self._free = free or _free_bytes
        self._said = _EARLY * needed

    def warning(self) -> str | None:
        """What to say now: once when the space becomes short, and again when half of that is left.

        Returns:
            None where there is room, or where the same was said before.
        """
        free = self._free(self.directory)
        if free >= self._said:
            return None
        self._said = free / 2
        return f"{self._numbers(free)}: make room, or the run will end"

    @property
    def is_full(self) -> bool:
        """Whether a checkpoint that is written now may be the last one that fits."""
        return self._free(self.directory) < _LAST * self.needed

    def look(self) -> tuple[str | None, bool]:
        """The warning, and whether it is full."""
        return self.warning(), self.is_full

    def problem(self) -> str | None:
        """Why a checkpoint cannot be written now; None if it can."""
        free = self._free(self.directory)
        if free >= _LEAST * self.needed:
            return None
        return (
            f"the disk is full: {self._numbers(free)}; the checkpoints before stay. Make room and "
            "go on with --resume"
        )

    def ending(self, step: int, run: Path) -> str:
        """What to say of a run that ends after the last checkpoint that fits."""
        return (
            f"the disk is nearly full: {self._numbers(self._free(self.directory))}; step {step} is "
            f"saved. Make room and go on with: normfree train --resume --out {run}"
        )

    def _numbers(self, free: int) -> str:
        return (
            f"{size(free)} are free in {self.directory}, and a checkpoint takes {size(self.needed)}"
        )


def state_bytes(state: Any) -> int:
    """Bytes of the tensors in nested dictionaries and lists; of sharded ones, of all rows.

    >>> import torch
    >>> state_bytes({"a": [torch.zeros(3), 1], "b": torch.zeros(2, dtype=torch.float64)})
    28
    """
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        state = state.values()
    if isinstance(state, Iterable) and not isinstance(state, str | bytes):
        return sum(map(state_bytes, state))
    return 0


def size(count: float) -> str:
    """A number of bytes for people.

    >>> size(999), size(2_500_000), size(80e9)
    ('999 B', '2.5 MB', '80.0 GB')
    """
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free
