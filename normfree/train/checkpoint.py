"""All that a run needs to go on: written atomically, read without running code from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from normfree.atomic import atomic_file
from normfree.errors import UserError
from normfree.weights import read_torch
from normfree.weights.checkpoint import FORMAT, check_checkpoint


def save_checkpoint(directory: Path, content: dict[str, Any], *, step: int, keep: int) -> Path:
    """Write ``step-N.pt`` and remove all but the newest checkpoints.

    Args:
        directory: of the checkpoints; made if it is missing.
        content: tensors, numbers, strings, and dictionaries and lists of those.
        step: steps done.
        keep: how many checkpoints stay.
    """
    directory.mkdir(exist_ok=True)
    path = directory / f"step-{step:08d}.pt"
    with atomic_file(path) as file:
        torch.save({"format": FORMAT, "step": step, **content}, file)
    for old in list_checkpoints(directory)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(directory.glob("step-*.pt"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Only tensors and plain values are read, see :func:`normfree.weights.read_torch`; their checksums
    are compared.

    Raises:
        UserError: the file is absent, damaged, or no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        content = read_torch(path)
    except UserError as error:
        reason = str(error).removeprefix(f"{path} is damaged or refused: ")
        raise UserError(
            f"{path} is damaged or no checkpoint ({reason}); use an older one of its directory"
        ) from None
    return check_checkpoint(content, str(path))


class Restorable(Protocol):
    """What takes up the state of a checkpoint."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from it."""
        ...


def restore(target: Restorable, state: dict[str, Any], source: Path) -> None:
    """Go on from the state of a checkpoint.

    Args:
        target: of the same configuration.
        state: of the checkpoint.
        source: what to call it in a message.

    Raises:
        UserError: it is of another configuration, or was changed by hand.
    """
    try:
        target.load_state_dict(state)
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"the newest checkpoint of {source} does not fit this run ({type(error).__name__}: "
            f"{said}); remove it to go on from the one before, or start again with another --out"
        ) from None


def newest_checkpoint(directory: Path) -> tuple[dict[str, Any] | None, list[Path]]:
    """The newest checkpoint that can be read.

    Returns:
        Its content, None where there is no checkpoint yet; and the newer ones that are damaged.

    Raises:
        UserError: there are checkpoints, but none can be read.
    """
    damaged: list[Path] = []
    for path in reversed(list_checkpoints(directory)):
        try:
            return read_checkpoint(path), damaged
        except UserError:
            damaged.append(path)
    if damaged:
        raise UserError(
            f"none of the {len(damaged)} checkpoints in {directory} can be read; "
            "start again with another --out"
        )
    return None, damaged
