"""Where checkpoints are: a directory of this machine. Each of them is complete, or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from normfree.train.direct import DirectFile
from normfree.train.run_dir import RunDirectory
from normfree.weights.checkpoint import list_checkpoints, step_of

_UNFINISHED, _REPLACED = ".unfinished-", ".replaced-"


class Writable(Protocol):
    """A file that only grows."""

    def write(self, content: Any, /) -> int:
        """Append bytes, or what has them in a row."""


class Store(Protocol):
    """A place for checkpoints, by step. All of it raises ``OSError`` where the place fails."""

    where: str
    """What a person calls it."""
    shared: bool
    """Whether all ranks read the same bytes, of which each can compare a share."""

    def prepare(self) -> None:
        """Make the place, and remove what an earlier process left unfinished."""

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, valid or not, oldest first."""

    def begin(self, step: int) -> None:
        """Before the first file: the main rank is going to write this checkpoint."""

    def writing(self, step: int, name: str) -> AbstractContextManager[Writable]:
        """A new file of a checkpoint; on the disk when the block ends."""

    def has(self, step: int, name: str) -> bool:
        """Whether a file of a checkpoint that is being written can be seen from here."""

    def commit(self, step: int) -> None:
        """Make a checkpoint of the files that were written, in place of one that is there."""

    def discard(self, step: int) -> None:
        """Remove what was written of a checkpoint that could not be finished."""

    def remove(self, step: int) -> None:
        """Remove a checkpoint."""

    def read(self, step: int, name: str) -> bytes:
        """A small file of a checkpoint."""

    def fetched(self, step: int) -> AbstractContextManager[Path]:
        """A path to read a checkpoint from, within the block."""


def open_store(place: str | None, run: RunDirectory) -> Store:
    """Where the checkpoints of a run are.

    Args:
        place: a directory or URL; None for that of the run.
        run: the run's directory.
    """
    if place is None:
        return LocalStore(run.checkpoints)
    if "://" not in place:
        return LocalStore(Path(place))
    from normfree.train.remote_store import RemoteStore

    return RemoteStore(place)


class LocalStore:
    """A directory.

    A checkpoint is written under a hidden name, flushed to the disk, and renamed.

    Args:
        directory: of the checkpoints.
    """

    shared = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.where = str(directory)

    def prepare(self) -> None:
        """Make the directory, and finish or remove what was interrupted."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path)
        for path in self.directory.glob(f"{_REPLACED}*"):
            final = self.directory / path.name.removeprefix(_REPLACED)
            if final.exists():
                shutil.rmtree(path)
            else:  # killed between two renames
                path.rename(final)

    def steps(self) -> list[int]:
        """The steps in the names."""
        return sorted({step_of(path) for path in list_checkpoints(self.directory)})

    def begin(self, step: int) -> None:
        """Nothing to do: one that is there stays until it is replaced."""

    @contextmanager
    def writing(self, step: int, name: str) -> Iterator[Writable]:
        """A file under the hidden name."""
        unfinished = self._unfinished(step)
        unfinished.mkdir(parents=True, exist_ok=True)
        with closing(DirectFile(unfinished / name)) as file:
            yield file
            file.sync()

    def has(self, step: int, name: str) -> bool:
        """Whether it is there."""
        return (self._unfinished(step) / name).is_file()

    def commit(self, step: int) -> None:
        """Rename what was written."""
        final, unfinished = self.directory / checkpoint_name(step), self._unfinished(step)
        _flush(unfinished)
        replaced = self.directory / f"{_REPLACED}{final.name}"
        if final.exists():
            final.rename(replaced)
        unfinished.rename(final)
        _flush(self.directory)
        if replaced.exists():
            shutil.rmtree(replaced)

    def discard(self, step: int) -> None:
        """Remove what is under the hidden name."""
        shutil.rmtree(self._unfinished(step), ignore_errors=True)

    def read(self, step: int, name: str) -> bytes:
        """The bytes."""
        return (self.directory / checkpoint_name(step) / name).read_bytes()

    def remove(self, step: int) -> None:
        """Remove it, also one from before they were directories."""
        final, unfinished = self.directory / checkpoint_name(step), self._unfinished(step)
        if final.is_dir():
            final.rename(unfinished)  # never half a checkpoint
            shutil.rmtree(unfinished)
        (self.directory / f"{checkpoint_name(step)}.pt").unlink(missing_ok=True)

    @contextmanager
    def fetched(self, step: int) -> Iterator[Path]:
        """The directory itself, or the file of an older version."""
        final = self.directory / checkpoint_name(step)
        yield final if final.is_dir() else final.with_name(f"{final.name}.pt")

    def _unfinished(self, step: int) -> Path:
        return self.directory / f"{_UNFINISHED}{checkpoint_name(step)}"


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint.

    >>> checkpoint_name(120)
    'step-00000120'
    """
    return f"step-{step:08d}"


def _flush(directory: Path) -> None:
    """Names of files are on the disk only when their directory is."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
