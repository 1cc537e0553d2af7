"""All that a run needs to go on: written atomically, read without running code from the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from normfree.atomic import atomic_file
from normfree.errors import UserError
from normfree.weights import read_torch
from normfree.weights.checkpoint import FORMAT, check_checkpoint

_NAME = re.compile(r"step-([0-9]+)\.pt")


def save_checkpoint(directory: Path, content: dict[str, Any], *, step: int, keep: int) -> Path:
    """Write ``step-N.pt`` and remove all but the newest checkpoints up to it.

    Those of later steps are damaged, or the run would have gone on from them: they stay until they
    are written again.

    Args:
        directory: of the checkpoints; made if it is missing.
        content: tensors, numbers, strings, and dictionaries and lists of those.
        step: steps done.
        keep: how many checkpoints stay.
    """
    directory.mkdir(exist_ok=True)
    path = checkpoint_path(directory, step)
    with atomic_file(path) as file:
        torch.save({"format": FORMAT, "step": step, **content}, file)
    upto = [done for done in list_checkpoints(directory) if _step(done) <= step]
    for old in upto[:-keep]:
        old.unlink()
    return path


def checkpoint_path(directory: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return directory / f"step-{step:08d}.pt"


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; files of other names are ignored."""
    named = [path for path in directory.glob("step-*.pt") if _NAME.fullmatch(path.name)]
    return sorted(named, key=_step)


def _step(path: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(path.stem.removeprefix("step-"))


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
