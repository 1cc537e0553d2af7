"""Several files in one description: braces, wildcards, and the split that a file's name says."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from normfree.data.sources.remote import glob_remote, is_remote
from normfree.data.sources.source import Split
from normfree.data.sources.table import SPELLED
from normfree.errors import UserError

_MOST_FILES = 2**20
_INNERMOST = re.compile(r"\{([^{}]*)\}")


def expand_braces(pattern: str) -> list[str]:
    """``{a,b}`` is each of the words, and ``{000..146}`` each of the numbers; braces may nest.

    Returns:
        The names, sorted.

    Raises:
        UserError: a brace has no counterpart or no list, or there are more than a million files.

    >>> expand_braces("{train-{0..1},val-00}.tar")
    ['train-0.tar', 'train-1.tar', 'val-00.tar']
    >>> expand_braces("train-{008..010}.tar")
    ['train-008.tar', 'train-009.tar', 'train-010.tar']
    """
    found = [pattern]
    while any("{" in name or "}" in name for name in found):
        names = (name for before in found for name in _expanded_once(before, pattern))
        found = list(islice(names, _MOST_FILES + 1))
        if len(found) > _MOST_FILES:
            raise UserError(f"{pattern:.200} stands for more than {_MOST_FILES:,} files")
    return sorted(set(found))


def _expanded_once(name: str, pattern: str) -> Iterator[str]:
    """Replace the first innermost pair of braces by each of its words."""
    match = _INNERMOST.search(name)
    if match is None:
        if "{" in name or "}" in name:
            raise UserError(f"a brace in {pattern:.200} has no counterpart")
        yield name
        return
    for word in _words(match[1], pattern):
        yield name[: match.start()] + word + name[match.end() :]


def _words(inside: str, pattern: str) -> Iterator[str]:
    numbers = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", inside)
    if numbers is None:
        if "," not in inside:
            raise UserError(
                f"{{{inside:.50}}} in {pattern:.200} is neither a list such as {{a,b}} nor numbers "
                "such as {000..146}"
            )
        yield from inside.split(",")
        return
    first, last = numbers.groups()
    if int(last) - int(first) >= _MOST_FILES:
        raise UserError(f"{pattern:.200} stands for more than {_MOST_FILES:,} files")
    width = len(first) if first.startswith("0") or len(first) == len(last) else 0
    for number in range(int(first), int(last) + 1):
        yield f"{number:0{width}}"


def expand_files(pattern: str, kind: str) -> list[str]:
    """The files that a pattern stands for: braces, then ``*``, ``?`` and ``[…]``.

    Args:
        pattern: of paths or URLs.
        kind: of source, in messages.

    Returns:
        The files, sorted.

    Raises:
        UserError: a wildcard stands for no file, or a brace is wrong.
    """
    if pattern.startswith(("pipe:", "|")):
        raise UserError(f"{kind}:{pattern:.200} runs a command, and data is only read: use a URL")
    files: list[str] = []
    for name in expand_braces(pattern):
        if is_remote(name):
            files += glob_remote(name) if "*" in name else [name]
            continue
        path = _expanduser(name, kind)
        wild = glob.has_magic(path) and not Path(path).exists()
        files += glob.glob(path) if wild else [path]  # noqa: PTH207 - keeps the spelling
    if not files:
        raise UserError(f"there is no file {pattern:.200}; name yours as {kind}:PATTERN")
    return sorted(set(files))


def _expanduser(name: str, kind: str) -> str:
    try:
        return str(Path(name).expanduser())
    except RuntimeError as error:
        raise UserError(f"cannot open {kind}:{name:.200}: {error}") from None


def file_split(path: str) -> Split | None:
    """The split that is a word of a file's name, or the whole name of its directory.

    >>> file_split("data/imagenet-train-000.tar"), file_split("val/0.tar"), file_split("0.tar")
    ('train', 'val', None)
    """
    *_, directory, name = ("", *path.lower().split("/"))
    found = {SPELLED[word] for word in re.split(r"[^a-z]+", name) if word in SPELLED}
    return found.pop() if len(found) == 1 else SPELLED.get(directory)


def file_splits(files: list[str], title: str) -> list[Split] | None:
    """The split of each file; None if no name says one.

    Raises:
        UserError: some names say a split and others do not.
    """
    splits = [file_split(file) for file in files]
    named = [split for split in splits if split is not None]
    if not named:
        return None
    if len(named) < len(splits):
        other = files[splits.index(None)]
        raise UserError(
            f"{title}: the names of some files say train, val or test, but that of {other} does not"
        )
    return named
