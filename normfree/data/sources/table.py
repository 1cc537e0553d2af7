"""A table of images: for each its name, label or labels, and perhaps its split and group."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool, Int

from normfree.data.sources.names import Names, NamesBuilder
from normfree.data.sources.source import Split
from normfree.errors import UserError, one_line

Value: TypeAlias = str | int
"""A label in a file: the name of a class, or a number."""

SPLITS: tuple[Split, ...] = get_args(Split)
SPELLED: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """The columns of a table of images, with distinct labels and groups as numbers.

    Attributes:
        title: the file, in messages.
        names: name of each image.
        values: the distinct labels.
        codes: the labels of all images, one image behind the other, as indices into ``values``.
        counts: number of labels of each image; None if each has exactly one.
        splits: split of each image, as an index into :data:`SPLITS`; None if there is no column.
        groups: group of each image; None if there is no column.
        listed: the classes, if the source lists them.
    """

    title: str
    names: Names = field(repr=False)
    values: tuple[Value, ...] = field(repr=False)
    codes: Int[np.ndarray, " m"] = field(repr=False)
    counts: Int[np.ndarray, " n"] | None = field(repr=False)
    splits: Int[np.ndarray, " n"] | None = field(repr=False)
    groups: Int[np.ndarray, " n"] | None = field(repr=False)
    listed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def available(self) -> tuple[Split, ...]:
        """The splits: a part of the training images validates if there is no other."""
        found = {split for split in SPLITS if self.of(split).any()}
        return tuple(s for s in SPLITS if s in found or (s == "val" and "train" in found))

    def of(self, split: Split) -> Bool[np.ndarray, " n"]:
        """The images whose column says so; all train if there is no column."""
        if self.splits is None:
            return np.full(len(self), split == "train")
        return self.splits == SPLITS.index(split)

    @property
    def first_codes(self) -> Int[np.ndarray, " n"]:
        """The rarest label of each image, as a code; −1 without a label."""
        if self.counts is None:
            return self.codes
        rarity = np.bincount(self.codes, minlength=len(self.values))
        ends = np.cumsum(self.counts)
        parts = (self.codes[end - n : end] for end, n in zip(ends, self.counts, strict=True))
        return np.array([min(part, key=rarity.__getitem__, default=-1) for part in parts])


class TableBuilder:
    """Collects the rows of a table."""

    def __init__(self, title: str, *, several: bool, splits: bool, groups: bool) -> None:
        self.title, self.several = title, several
        self.names = NamesBuilder()
        self.codes, self.counts = array("i"), array("i")
        self.known: dict[Value, int] = {}
        self.splits = array("b") if splits else None
        self.groups = array("q") if groups else None
        self.known_groups: dict[Value, int] = {}

    def add(
        self, name: str, labels: Sequence[Value], split: object = None, group: object = None
    ) -> None:
        """Add an image whose labels were :func:`checked`.

        Raises:
            UserError: another value is missing or of the wrong kind.
        """
        for label in labels:
            self.codes.append(self.known.setdefault(label, len(self.known)))
        self.counts.append(len(labels))
        if self.splits is not None:
            self.splits.append(SPLITS.index(split_name(split)))
        if self.groups is not None:
            group = checked(group, "group")
            self.groups.append(self.known_groups.setdefault(group, len(self.known_groups)))
        self.names.append(name)

    def add_row(self, name: str, values: Mapping[str, Any], where: str) -> None:
        """Add an image by the roles of its values: ``label`` or ``labels``, ``split``, ``group``.

        Raises:
            UserError: a value is missing or of the wrong kind; the message begins with ``where``.
        """
        try:
            labels = values.get("labels") if self.several else [values.get("label")]
            if not isinstance(labels, Sequence) or isinstance(labels, str):
                raise UserError(f"the labels should be a list; got {labels!r:.60}")
            distinct = list(dict.fromkeys(checked(label, "label") for label in labels))
            self.add(name, distinct, values.get("split"), values.get("group"))
        except (UserError, UnicodeEncodeError) as error:
            raise UserError(f"{where}: {one_line(error)}") from None

    def built(self, listed: tuple[str, ...] = ()) -> Table:
        """The table.

        Raises:
            UserError: it has no rows.
        """
        if not len(self.names):
            raise UserError(f"{self.title} has no images")
        return Table(
            title=self.title,
            names=self.names.built(),
            values=tuple(self.known),
            codes=np.array(self.codes, dtype=np.int32),
            counts=np.array(self.counts, dtype=np.int32) if self.several else None,
            splits=None if self.splits is None else np.array(self.splits, dtype=np.int8),
            groups=None if self.groups is None else np.array(self.groups, dtype=np.int64),
            listed=listed,
        )


def checked(value: object, what: str) -> Value:
    """A label or group, which is a text or a whole number.

    >>> checked("", "label")
    Traceback (most recent call last):
    normfree.errors.UserError: the label is missing
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        is_missing = value is None or value != value
        raise UserError(
            f"the {what} is missing"
            if is_missing
            else f"the {what} should be a text or a whole number; got {value!r:.60}"
        )
    if value == "":
        raise UserError(f"the {what} is missing")
    return value


def split_name(value: object) -> Split:
    """The split that a word means.

    >>> split_name("Validation")
    'val'
    """
    split = SPELLED.get(value.strip().lower()) if isinstance(value, str) else None
    if split is None:
        raise UserError(f"the split should be train, val or test; got {value!r:.60}")
    return split
