"""Checkpoints in an object store, or wherever else fsspec reaches."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from normfree.errors import UserError, one_line, printable
from normfree.train.store import Writable, checkpoint_name
from normfree.url_secrets import conceal, reveal
from normfree.weights.checkpoint_directory import SUMS

T = TypeVar("T")

_NAME = re.compile(r"step-([0-9]{8,})")


class RemoteStore:
    """A prefix of URLs.

    An object store cannot rename, so files have their final names from the beginning. A checkpoint
    is there once its ``XXH128SUMS`` is, which is written last and removed first.

    Args:
        url: such as ``s3://bucket/runs/7``; a secret in it is the name of a variable, ``$NAME``.

    Raises:
        UserError: fsspec, or what it needs for this protocol, is not installed.

    Example:
        >>> store = RemoteStore("memory://example")
        >>> for name in ("state.json", "XXH128SUMS"):
        ...     with store.writing(3, name) as file:
        ...         _ = file.write(b"...")
        >>> store.steps(), store.read(3, "state.json")
        ([3], b'...')
        >>> store.remove(3)
        >>> store.steps()
        []
    """

    shared = False

    def __init__(self, url: str) -> None:
        self.where = printable(url, 200)
        try:
            import fsspec.core

            self._files, self._root = fsspec.core.url_to_fs(reveal(url))
        except ImportError as error:
            raise UserError(
                f"checkpoints in {self.where} need fsspec: pip install 'normfree[remote]' "
                f"({one_line(error)})"
            ) from None
        except Exception as error:  # each protocol has exceptions of its own
            said = conceal(one_line(error), url)
            raise UserError(f"--checkpoint-dir {self.where}: {said}") from None

    def prepare(self) -> None:
        """Make the directory, where there is such a thing, and remove what was interrupted."""
        self._do(lambda: self._files.makedirs(self._root, exist_ok=True))
        for step, complete in self._found().items():
            if not complete:
                self.discard(step)

    def steps(self) -> list[int]:
        """The steps whose checkpoint was written to its end."""
        return sorted(step for step, complete in self._found().items() if complete)

    @contextmanager
    def writing(self, step: int, name: str) -> Iterator[Writable]:
        """A file, uploaded when the block ends."""
        directory = self._path(step)
        self._do(lambda: self._files.makedirs(directory, exist_ok=True))
        file = self._do(lambda: self._files.open(f"{directory}/{name}", "wb"))
        yield _Upload(file, self._do)
        self._do(file.close)

    def has(self, step: int, name: str) -> bool:
        """Whether it is there."""
        self._files.invalidate_cache()
        return bool(self._do(lambda: self._files.exists(f"{self._path(step)}/{name}")))

    def begin(self, step: int) -> None:
        """One that is there is none from now on."""
        sums = f"{self._path(step)}/{SUMS}"
        if self.has(step, SUMS):
            self._do(lambda: self._files.rm_file(sums))

    def commit(self, step: int) -> None:
        """Nothing to do: the checksums were written."""

    def discard(self, step: int) -> None:
        """Remove what is there of it."""
        self.remove(step)

    def remove(self, step: int) -> None:
        """Remove the checksums, then the rest."""
        self.begin(step)
        directory = self._path(step)
        if self._do(lambda: self._files.exists(directory)):
            self._do(lambda: self._files.rm(directory, recursive=True))

    def read(self, step: int, name: str) -> bytes:
        """The bytes."""
        return bytes(self._do(lambda: self._files.cat_file(f"{self._path(step)}/{name}")))

    @contextmanager
    def fetched(self, step: int) -> Iterator[Path]:
        """A copy in a temporary directory."""
        with tempfile.TemporaryDirectory(prefix="normfree-") as directory:
            copy = Path(directory) / checkpoint_name(step)
            copy.mkdir()
            for path in self._listed(self._path(step)):
                name = path.rsplit("/", 1)[-1]
                if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                    self._do(partial(self._files.get_file, path, str(copy / name)))
            yield copy

    def _found(self) -> dict[int, bool]:
        """Step → whether its checkpoint is complete."""
        named = {_NAME.fullmatch(path.rsplit("/", 1)[-1]) for path in self._listed(self._root)}
        steps = [int(match[1]) for match in named if match]
        return {step: self.has(step, SUMS) for step in steps}

    def _listed(self, path: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            found = self._do(lambda: self._files.ls(path, detail=False))
        except FileNotFoundError:  # nothing has that prefix yet
            return []
        return [str(entry).rstrip("/") for entry in found]

    def _path(self, step: int) -> str:
        return f"{self._root}/{checkpoint_name(step)}"

    def _do(self, action: Callable[[], T]) -> T:
        """What the action returns; any error of it is an ``OSError``."""
        try:
            return action()
        except OSError:
            raise
        except Exception as error:  # each protocol has exceptions of its own
            raise OSError(one_line(error)) from error


class _Upload:
    """A file whose every error is an ``OSError``."""

    def __init__(self, file: Any, do: Callable[[Callable[[], int]], int]) -> None:
        self._file = file
        self._do = do

    def write(self, content: Any, /) -> int:
        return self._do(lambda: self._file.write(content))
