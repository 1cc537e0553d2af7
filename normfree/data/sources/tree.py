"""List the files below a directory. Links are followed, loops are not, and skips are reported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from normfree.errors import UserError


class Tree(NamedTuple):
    """The contents of a directory tree.

    Attributes:
        files: files with a wanted extension: sorted within a directory, then its subdirectories.
        others: number of other visible files.
        skipped: links to directories that were not followed, because those are read already.
    """

    files: tuple[str, ...]
    others: int
    skipped: tuple[str, ...]


def read_tree(directory: Path, endings: frozenset[str]) -> Tree:
    """List a directory tree; hidden entries are ignored.

    Args:
        directory: root of the tree.
        endings: extensions of the wanted files, in lower case.

    Raises:
        UserError: a directory cannot be read.
    """
    files: list[str] = []
    skipped: list[str] = []
    others = 0
    read = _Disjoint()
    read.add(directory.resolve())
    stack: list[str | Path] = [directory]
    while stack:
        below: list[str] = []
        for entry in visible(stack.pop()):
            if not is_directory(entry):
                wanted = Path(entry.name).suffix.lower() in endings
                files += [entry.path] * wanted
                others += not wanted
            elif not entry.is_symlink() or read.add(Path(entry.path).resolve()):
                below.append(entry.path)
            else:
                skipped.append(entry.path)
        stack += reversed(below)
    return Tree(tuple(files), others, tuple(skipped))


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
    try:
        with os.scandir(directory) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(
            f"cannot read the directory {directory}: {error.strerror}; "
            "make it readable or remove it"
        ) from None
    return sorted(found, key=lambda entry: entry.name)


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a directory or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False
