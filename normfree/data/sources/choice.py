"""The images of a split of a table, and their labels as numbers of classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from normfree.data.sources.class_names import class_names
from normfree.data.sources.hold_out import HELD_OUT, about_hold_out, held_out
from normfree.data.sources.source import Labels, Split
from normfree.data.sources.table import Table, Value
from normfree.errors import UserError, printable, unknown_name

_MOST_TRUTHS = 2**31  # images × classes of a table with several labels an image: a byte each


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


def choose(
    table: Table,
    split: Split,
    known: tuple[str, ...] = (),
    *,
    sort: bool = True,
    fraction: float = HELD_OUT,
) -> Chosen:
    """The images of a split, sorted by name.

    Without validation images, a part of the training images validates, see
    :func:`~normfree.data.sources.hold_out.held_out`.

    Args:
        table: all images.
        split: the wanted ones.
        known: classes, if the table has neither training images nor a list of classes.
        sort: by name; otherwise images keep the table's order.
        fraction: part of the training images that validates if no others do.

    Raises:
        UserError: there are none, or the label of one is unknown.
    """
    inside, train = table.of(split), table.of("train")
    notes = list(_about_groups(table))
    if split != "test" and not table.of("val").any() and train.any():
        inside, note = _part(table, split, train, fraction)
        notes = [*note, *notes]
    rows = np.flatnonzero(inside)
    if not len(rows):
        raise UserError(f"{table.title} has no images whose split is {split}")
    if sort:
        rows = rows[table.names.take(rows).by_path()]
    classes = _classes(table, train, known)
    return Chosen(rows, _labels(table, rows, classes), classes, tuple(notes))


def _part(
    table: Table, split: Split, train: Bool[np.ndarray, " n"], fraction: float
) -> tuple[Bool[np.ndarray, " n"], list[str]]:
    rows = np.flatnonzero(train)
    groups = None if table.groups is None else table.groups[rows]
    chosen = held_out(table.names.take(rows), table.first_codes[rows], groups, fraction)
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
