"""The registry of data sources; a short description such as ``folder:DIR`` opens one."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from normfree.data.formats import LIMITS, Limits
from normfree.data.sources.hold_out import HELD_OUT
from normfree.data.sources.secrets import check_no_secret
from normfree.data.sources.source import Source, Split
from normfree.errors import UserError, unknown_name

OnBadImage: TypeAlias = Literal["error", "skip"]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Options for opening a source, besides its argument and split.

    Attributes:
        classes: classes of ``val`` or ``test`` if there are no training images to define them.
        limits: size limits of an image.
        on_bad_image: ``skip`` opens a source without what is damaged in it, and notes it.
        val_fraction: part of the training images that validates if no others do.
    """

    classes: tuple[str, ...] = ()
    limits: Limits = LIMITS
    on_bad_image: OnBadImage = "error"
    val_fraction: float = HELD_OUT


Opener: TypeAlias = Callable[[str, Split, Opening], Source]
Splits: TypeAlias = Callable[[str], Sequence[Split]]


class _Kind(NamedTuple):
    form: str  # placeholder for the argument after the colon; "" for none
    open: Opener
    splits: Splits


_KINDS: dict[str, _Kind] = {}


def _train_and_val(argument: str) -> tuple[Split, ...]:
    return "train", "val"


def register_source(
    name: str, form: str = "", splits: Splits = _train_and_val
) -> Callable[[Opener], Opener]:
    """Register a source: a decorator for ``open(argument, split, opening) -> Source``.

    ``examples/add_a_data_source.py`` is a complete example.

    Args:
        name: the part before the colon.
        form: placeholder for the argument in help texts (``DIR``); "" if there is no argument.
        splits: argument → available splits; ``train`` and ``val`` by default.

    Raises:
        ValueError: the name is taken.

    >>> @register_source("digits")
    ... def open_other_digits(argument, split, opening): ...
    Traceback (most recent call last):
    ...
    ValueError: there is a source 'digits' already
    """

    def add(opener: Opener) -> Opener:
        if name in _KINDS:
            raise ValueError(f"there is a source {name!r} already")
        _KINDS[name] = _Kind(form, opener, splits)
        return opener

    return add


def source_names() -> list[str]:
    """The registered sources, with placeholders for their arguments.

    >>> source_names()
    ['csv:FILE', 'digits', 'folder:DIR', 'hf:NAME_OR_DIR', 'idx:DIR', 'jsonl:FILE',
     'pack:FILE', 'parquet:PATTERN', 'synthetic:N', 'wds:PATTERN']
    """
    return sorted(_written(name) for name in _KINDS)


def open_source(
    spec: str,
    split: Split,
    classes: Sequence[str] | None = None,
    *,
    limits: Limits = LIMITS,
    on_bad_image: OnBadImage = "error",
    val_fraction: float = HELD_OUT,
) -> Source:
    """Open a source by its description.

    Args:
        spec: one of :func:`source_names`, such as ``folder:DIR``, or a source added with
            :func:`register_source`.
        split: ``train``; ``val``, used for model selection; or ``test``, never used for selection.
        classes: classes of ``val`` or ``test`` if there are no training images to define them.
        limits: size limits of an image.
        on_bad_image: ``error`` refuses a source that is damaged in part, such as a tar shard that
            ends early; ``skip`` opens the rest of it. Single images are not looked at here.
        val_fraction: part of each class that validates if the source has no validation images of
            its own. ``train`` and ``val`` must be opened with the same.

    Raises:
        UserError: the source or split does not exist or cannot be opened.

    >>> open_source("synthetic:64", "train").name(3)
    'synthetic[3]'
    >>> open_source("digit", "train")
    Traceback (most recent call last):
    ...
    normfree.errors.UserError: unknown source 'digit'; did you mean digits?
    """
    kind, argument = _find(spec)
    if split == "test" and "test" not in kind.splits(argument):
        raise UserError(f"{reprlib.repr(spec)} has no test split: evaluate on val")
    if not 0 < val_fraction < 1:
        raise UserError(f"the part that validates must be between 0 and 1; got {val_fraction}")
    opening = Opening(
        classes=tuple(classes or ()),
        limits=limits,
        on_bad_image=on_bad_image,
        val_fraction=val_fraction,
    )
    return kind.open(argument, split, opening)


def has_split(spec: str, split: Split) -> bool:
    """Whether a source has a split.

    Raises:
        UserError: the source does not exist.

    >>> has_split("digits", "val"), has_split("digits", "test")
    (True, False)
    """
    kind, argument = _find(spec)
    return split in kind.splits(argument)


def _find(spec: str) -> tuple[_Kind, str]:
    try:
        spec.encode()
    except UnicodeEncodeError:
        raise UserError(f"the path in {spec!r} is not UTF-8: rename the directory") from None
    check_no_secret(spec)
    name, _, argument = spec.partition(":")
    if name not in _KINDS:
        if _is_directory(spec):
            raise UserError(f"{spec} is a directory: write folder:{spec} or idx:{spec}")
        raise unknown_name("source", name[:80], _KINDS)
    kind = _KINDS[name]
    if bool(argument) != bool(kind.form):
        raise UserError(
            f"the source {reprlib.repr(spec)} lacks an argument or has an extra one: "
            f"write {_written(name)}"
        )
    return kind, argument


def _written(name: str) -> str:
    form = _KINDS[name].form
    return f"{name}:{form}" if form else name


def _is_directory(path: str) -> bool:
    try:
        return bool(path) and Path(path).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, no home
        return False
