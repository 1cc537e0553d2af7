"""Where images come from: one file a source, opened by a short description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from normfree.data.sources.digits import open_digits
from normfree.data.sources.folder import FolderSource, open_folder
from normfree.data.sources.idx import open_idx
from normfree.data.sources.source import ArraySource, Source, Split
from normfree.data.sources.synthetic import open_synthetic
from normfree.errors import UserError, unknown_name

__all__ = ["ArraySource", "FolderSource", "Source", "Split", "open_source", "source_names"]

# name → what follows its colon, and what opens it
_SOURCES: dict[str, tuple[str, Callable[[str, Split, Sequence[str] | None], Source]]] = {
    "digits": ("", lambda _, split, __: open_digits(split)),
    "folder": ("DIR", open_folder),
    "idx": ("DIR", open_idx),
    "synthetic": ("N", lambda spec, split, _: open_synthetic(spec, split)),
}


def source_names() -> list[str]:
    """The sources there are, as one writes them.

    >>> source_names()
    ['digits', 'folder:DIR', 'idx:DIR', 'synthetic:N']
    """
    return [f"{name}:{form}" if form else name for name, (form, _) in _SOURCES.items()]


def open_source(spec: str, split: Split, classes: Sequence[str] | None = None) -> Source:
    """Open a source by its description.

    Args:
        spec: ``digits``, ``idx:DIR``, ``folder:DIR`` or ``synthetic:N``.
        split: ``train`` or ``val``.
        classes: the classes of ``val`` where there are no training images that say them.

    Raises:
        UserError: if there is no such source, or it cannot be opened.

    >>> open_source("synthetic:64", "train").name(3)
    'synthetic[3]'
    >>> open_source("digit", "train")
    Traceback (most recent call last):
    ...
    normfree.errors.UserError: unknown source 'digit'; did you mean digits?
    """
    name, _, argument = spec.partition(":")
    if name not in _SOURCES:
        if spec and Path(spec).expanduser().is_dir():
            raise UserError(f"{spec} is a directory: write folder:{spec} or idx:{spec}")
        raise unknown_name("source", name, _SOURCES)
    form, opener = _SOURCES[name]
    if bool(argument) != bool(form):
        expected = f"{name}:{form}" if form else name
        raise UserError(f"the source {spec!r} is not complete or has too much: write {expected}")
    return opener(argument, split, classes)
