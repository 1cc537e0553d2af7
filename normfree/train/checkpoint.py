"""All that a run needs to go on: found and read, whole, without running code from a file."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from normfree.errors import UserError, one_line
from normfree.train.components import Loop
from normfree.train.keeping import Mark
from normfree.train.runtime import Runtime
from normfree.train.store import LocalStore, Store, checkpoint_name
from normfree.train.writer import CheckpointWriter
from normfree.weights import read_torch
from normfree.weights.checkpoint import check_checkpoint, list_checkpoints
from normfree.weights.checkpoint_directory import read_checkpoint_directory, verify
from normfree.weights.unpickle import Refused

__all__ = [
    "Found",
    "list_checkpoints",
    "newest_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
]


class Found(NamedTuple):
    """The newest valid checkpoint.

    Attributes:
        content: what it holds, with whole tensors; None where there is no checkpoint yet.
        passed_over: the newer ones, which are damaged, and why.
    """

    content: dict[str, Any] | None
    passed_over: list[str]


def save_checkpoint(directory: Path, content: dict[str, Any], *, step: int, keep: int) -> Path:
    """Write one checkpoint by itself, and remove all but the newest up to it.

    Args:
        directory: of the checkpoints; made if it is missing.
        content: tensors, numbers, strings, and dictionaries and lists of those.
        step: steps done.
        keep: how many checkpoints stay.
    """
    store = LocalStore(directory)
    store.prepare()
    writer = CheckpointWriter(store, Runtime(device="cpu"), Loop(keep_checkpoints=keep))
    with writer.closing():
        writer.save(content, step=step, mark=Mark())
    return directory / checkpoint_name(step)


def read_checkpoint(path: Path, *, verified: bool = False) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Only tensors and plain values are read (see :mod:`normfree.weights.checkpoint_directory`, and
    :func:`normfree.weights.read_torch` for the files of older versions); checksums are compared.

    Args:
        path: of the directory, or of the file of an older version.
        verified: whether its checksums were compared already.

    Raises:
        UserError: it is absent, damaged, or no checkpoint.
    """
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}")
    try:
        if path.is_dir():
            content: Any = read_checkpoint_directory(path, verified=verified)
        else:
            content = read_torch(path)
    except UserError as error:
        reason = str(error).removeprefix(f"{path} is damaged").removeprefix(" or refused")
        raise UserError(
            f"{path} is damaged or no checkpoint ({reason.removeprefix(': ')}); use an older one "
            "of its directory"
        ) from None
    return check_checkpoint(content, str(path))


def newest_checkpoint(store: Store | Path, runtime: Runtime | None = None) -> Found:
    """The newest valid checkpoint, on all ranks.

    Newer is what has more steps; no time is looked at.

    Args:
        store: where they are.
        runtime: the ranks, each of which compares some of the checksums; None for this process.

    Raises:
        UserError: there are checkpoints, but none is valid.
    """
    runtime = Runtime(device="cpu") if runtime is None else runtime
    store = LocalStore(store) if isinstance(store, Path) else store
    passed_over: list[str] = []
    for step in reversed(runtime.first(store.steps)):
        with ExitStack() as stack:
            content, error = _read(store, step, runtime, stack)
        if error is None:
            return Found(content, passed_over)
        passed_over.append(error)
    if passed_over:
        raise UserError(
            f"none of the {len(passed_over)} checkpoints in {store.where} can be read "
            f"({passed_over[0]}); start again with another --out"
        )
    return Found(None, passed_over)


def _read(
    store: Store, step: int, runtime: Runtime, stack: ExitStack
) -> tuple[dict[str, Any] | None, str | None]:
    """A checkpoint, or what is wrong with it: on all ranks, if it is on one."""
    path, content, error = Path(), None, None
    try:
        path = stack.enter_context(store.fetched(step))
        if path.is_dir():
            _compare(path, runtime if store.shared else None)
    except (UserError, OSError) as problem:
        error = one_line(problem)
    error = _first(runtime.gathered(error))
    if error is None:
        try:
            content = read_checkpoint(path, verified=True)
        except (UserError, OSError) as problem:
            error = one_line(problem)
        error = _first(runtime.gathered(error))
    return content, error


def _compare(path: Path, runtime: Runtime | None) -> None:
    """Compare all checksums, or this rank's share of them."""
    part, parts = (0, 1) if runtime is None else (runtime.rank, runtime.world)
    try:
        verify(path, part=part, parts=parts)
    except Refused as reason:
        raise UserError(f"{path} is damaged: {reason}") from None


def _first(errors: list[str | None]) -> str | None:
    """What the first rank with an error says."""
    return next((error for error in errors if error is not None), None)
