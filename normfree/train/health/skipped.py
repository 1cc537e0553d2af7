"""The steps whose batches a run leaves out: on file, so that a resumed run leaves out the same."""

from __future__ import annotations

import json
from pathlib import Path

from normfree.atomic import write_atomic
from normfree.errors import UserError, printable
from normfree.train.health.writing import writing

_LARGEST = 1 << 20  # bytes of the file


class SkippedSteps:
    """Steps that are not taken, with the reasons.

    Args:
        path: of the file; None keeps nothing.
        reasons: step → why it is left out.

    Example:
        >>> skipped = SkippedSteps(None, {})
        >>> for step in (3, 7, 8):
        ...     skipped.add(step, "the loss is nan")
        >>> 7 in skipped, skipped.before(8), skipped.in_a_row(8), len(skipped)
        (True, 2, 2, 3)
    """

    def __init__(self, path: Path | None, reasons: dict[int, str]) -> None:
        self.path = path
        self.reasons = dict(reasons)

    def __contains__(self, step: object) -> bool:
        return step in self.reasons

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, step: int, reason: str) -> None:
        """Leave out a step, from now on."""
        self.reasons[step] = reason
        if self.path is not None:
            kept = {str(number): self.reasons[number] for number in sorted(self.reasons)}
            with writing("the skipped steps", self.path):
                write_atomic(self.path, json.dumps(kept, indent=1).encode())

    def before(self, step: int) -> int:
        """How many steps before one are left out."""
        return sum(number < step for number in self.reasons)

    def in_a_row(self, step: int) -> int:
        """How many steps up to one are left out without a gap."""
        first = step
        while first in self.reasons:
            first -= 1
        return step - first


def read_skipped(path: Path) -> dict[int, str]:
    """Step → reason, as a run has written them; empty without a file.

    Raises:
        UserError: the file was damaged or changed.
    """
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            kept = json.loads(file.read(_LARGEST))
        return {_step(step): printable(str(reason), 200) for step, reason in kept.items()}
    except (ValueError, AttributeError, RecursionError):
        raise UserError(
            f"{path} does not say which steps the run left out; it is damaged: remove it, and the "
            "run will find them again"
        ) from None


def _step(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ValueError(text)
    return int(text)
