"""A table of images: for each its name, label or labels, and perhaps its split and group."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool, Int

from normfree.data.files import read_regular
from normfree.data.sources.hold_out import about_hold_out, held_out
from normfree.data.sources.names import Names, NamesBuilder
from normfree.data.sources.source import Labels, Split
from normfree.errors import UserError, one_line, printable, unknown_name

Value: TypeAlias = str | int
"""A label in a file: the name of a class, or a number."""

SPLITS: tuple[Split, ...] = get_args(Split)
SPELLED: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MOST_TRUTHS = 2**31  # images × classes of a table with several labels an image: a byte each
_MOST_CLASS_BYTES = 2**26  # of a file of class names


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


class Chosen(NamedTuple):
    """The images of a split.

    Attributes:
        rows: their rows in the table, in the order of their names.
        labels: their labels.
        classes: class names.
        notes: remarks for the user.
    """

    rows: Int[np.ndarray, " n"]
    labels: Labels
    classes: tuple[str, ...]
    notes: tuple[str, ...]


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


def choose(table: Table, split: Split, known: tuple[str, ...] = (), *, sort: bool = True) -> Chosen:
    """The images of a split, sorted by name.

    Without validation images, a tenth of the training images validates, see
    :func:`~normfree.data.sources.hold_out.held_out`.

    Args:
        table: all images.
        split: the wanted ones.
        known: classes, if the table has neither training images nor a list of classes.
        sort: by name; otherwise images keep the table's order.

    Raises:
        UserError: there are none, or the label of one is unknown.
    """
    inside, train = table.of(split), table.of("train")
    notes = list(_about_groups(table))
    if split != "test" and not table.of("val").any() and train.any():
        inside, note = _part(table, split, train)
        notes = [*note, *notes]
    rows = np.flatnonzero(inside)
    if not len(rows):
        raise UserError(f"{table.title} has no images whose split is {split}")
    if sort:
        rows = rows[table.names.take(rows).by_path()]
    classes = _classes(table, train, known)
    return Chosen(rows, _labels(table, rows, classes), classes, tuple(notes))


def _part(
    table: Table, split: Split, train: Bool[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, " n"], list[str]]:
    rows = np.flatnonzero(train)
    groups = None if table.groups is None else table.groups[rows]
    chosen = held_out(table.names.take(rows), table.first_codes[rows], groups)
    if split == "val" and not chosen.any():
        raise UserError(
            f"every class of {table.title} has a single image or group, so none can validate: add "
            "more, or a column 'split'"
        )
    inside = np.zeros(len(table), dtype=bool)
    inside[rows] = chosen == (split == "val")
    note = about_hold_out(chosen, table.title, grouped=groups is not None)
    return inside, [note] if split == "val" else []


def _classes(
    table: Table, train: Bool[np.ndarray, " n"], known: tuple[str, ...]
) -> tuple[str, ...]:
    """Those that are listed, else the labels of the training images, else those that are known."""
    if table.listed or not train.any():
        classes = table.listed or known or class_names(table.values)
    else:
        inside = train if table.counts is None else np.repeat(train, table.counts)
        classes = class_names(table.values[code] for code in np.unique(table.codes[inside]))
    if len(classes) < 2:
        raise UserError(
            f"{table.title} has {len(classes)} classes, and a classifier needs two or more"
        )
    return classes


def class_names(values: Iterable[Value]) -> tuple[str, ...]:
    """The classes that some labels make: sorted by name, or by number if all are numbers.

    >>> class_names(["10", "9", "9"]), class_names(["dog", "cat", 3])
    (('9', '10'), ('3', 'cat', 'dog'))
    """
    names = {str(value) for value in values}
    numbers = all(name.isascii() and name.isdigit() for name in names)
    for name in names:
        check_class(name)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


def check_class(name: str) -> None:
    """Refuse a name that is no text, because names are saved with the weights.

    Raises:
        UserError: it has control characters, or bytes that are not UTF-8.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise UserError(
            f"the class {printable(name, 80)!r} has control characters or bytes that are not UTF-8"
        )


def read_classes(file: Path) -> tuple[str, ...]:
    """The classes in a text file, one a line, in the order of their numbers.

    Raises:
        UserError: it cannot be read, or a name is empty or appears twice.
    """
    try:
        text = read_regular(file, _MOST_CLASS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from None
    names = tuple(line.strip() for line in text.removesuffix("\n").split("\n"))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"{file} should have the name of a class in each line, each of them once")
    for name in names:
        check_class(name)
    return names


def _labels(table: Table, rows: Int[np.ndarray, " n"], classes: tuple[str, ...]) -> Labels:
    label_of = {name: label for label, name in enumerate(classes)}
    numbered = bool(table.listed)
    found = np.array([_label(value, label_of, numbered) for value in table.values], np.int64)
    if table.counts is None:
        labels = found[table.codes[rows]]
        _check_known(table, rows, table.codes[rows], labels, classes)
        return labels
    if len(rows) * len(classes) > _MOST_TRUTHS:
        raise UserError(
            f"{table.title} has {len(rows):,} images with several of {len(classes):,} labels, more "
            "than fit into memory"
        )
    counts = table.counts[rows]
    ends = np.cumsum(table.counts)[rows]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    codes = table.codes[np.repeat(ends - counts, counts) + within]
    row = np.repeat(np.arange(len(rows)), counts)
    _check_known(table, rows[row], codes, found[codes], classes)
    truths = np.zeros((len(rows), len(classes)), dtype=bool)
    truths[row, found[codes]] = True
    return truths


def _label(value: Value, label_of: dict[str, int], numbered: bool) -> int:
    """The class of a label: by its name, or by its number in a list of classes; −1 if unknown."""
    label = label_of.get(str(value), -1)
    if label < 0 and numbered and str(value).isascii() and str(value).isdigit():
        label = int(value) if len(str(value)) < 10 and int(value) < len(label_of) else -1
    return label


def _check_known(
    table: Table,
    rows: Int[np.ndarray, " m"],
    codes: Int[np.ndarray, " m"],
    labels: Int[np.ndarray, " m"],
    classes: tuple[str, ...],
) -> None:
    if unknown := np.flatnonzero(labels < 0)[:1].tolist():
        value, name = table.values[codes[unknown[0]]], table.names[int(rows[unknown[0]])]
        raise UserError(
            f"{table.title}: {printable(name, 200)}: {unknown_name('class', str(value), classes)}"
        )


def _about_groups(table: Table) -> Iterator[str]:
    if table.groups is None or table.splits is None:
        return
    pairs = np.unique(np.stack([table.groups, table.splits]), axis=1)
    count = int((np.bincount(pairs[0]) > 1).sum())
    if count:
        yield f"warning: {count} groups of {table.title} are in more than one split"
