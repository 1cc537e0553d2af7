"""List the files below a directory. Links are followed, loops are not, and skips are reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from normfree.data.sources.names import NamesBuilder
from normfree.errors import UserError


class Tree(NamedTuple):
    """The contents of a directory tree, besides the files.

    Attributes:
        files: number of files with a wanted extension.
        others: number of other visible files.
        skipped: links to directories that were not followed, because those are read already.
    """

    files: int
    others: int
    skipped: tuple[str, ...]


def read_tree(directory: Path, endings: frozenset[str], names: NamesBuilder, prefix: str) -> Tree:
    """List a directory tree, sorted by name at each level; hidden entries are ignored.

    Args:
        directory: root of the tree.
        endings: extensions of the wanted files, in lower case.
        names: where the wanted files are added.
        prefix: what to write before their paths within ``directory``.

    Raises:
        UserError: a directory cannot be read.
    """
    files = others = 0
    skipped: list[str] = []
    read = _Disjoint()
    read.add(directory.resolve())
    stack = [_walk(str(directory), prefix)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        elif isinstance(found, str):
            wanted = os.path.splitext(found)[1].lower() in endings  # noqa: PTH122 - a million times
            if wanted:
                names.append(found)
            files += wanted
            others += not wanted
        elif not found.is_link or read.add(Path(found.path).resolve()):
            stack.append(_walk(found.path, found.name + "/"))
        else:
            skipped.append(found.path)
    return Tree(files, others, tuple(skipped))


class _Directory(NamedTuple):
    path: str
    name: str
    is_link: bool


def _walk(path: str, prefix: str) -> Iterator[str | _Directory]:
    """The entries of a directory, sorted; of files only the names: there may be millions."""
    entries: list[str] = []
    directories: dict[str, bool] = {}
    for entry in _scan(path):
        entries.append(entry.name)
        if is_directory(entry):
            directories[entry.name] = entry.is_symlink()
    for name in sorted(entries, key=os.fsencode):
        if name in directories:
            yield _Directory(os.path.join(path, name), prefix + name, directories[name])  # noqa: PTH118
        else:
            yield prefix + name


class _Disjoint:
    """A set of directories that do not contain each other, so that each is read once."""

    def __init__(self) -> None:
        self.roots: set[Path] = set()
        self.above: set[Path] = set()

    def add(self, directory: Path) -> bool:
        """Add a directory unless it overlaps with the set; returns whether it was added."""
        if directory in self.above or not self.roots.isdisjoint([directory, *directory.parents]):
            return False
        self.roots.add(directory)
        self.above.update(directory.parents)
        return True


def visible(directory: str | Path) -> list[os.DirEntry[str]]:
    """The entries of a directory that are not hidden, sorted by name.

    Raises:
        UserError: the directory cannot be read.
    """
    return sorted(_scan(directory), key=lambda entry: os.fsencode(entry.name))


def _scan(directory: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry
    except OSError as error:
        raise UserError(
            f"cannot read the directory {directory}: {error.strerror}; "
            "make it readable or remove it"
        ) from None


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a directory or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False
