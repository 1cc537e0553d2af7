"""``parquet:PATTERN``: images and labels in the columns of Parquet files."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from normfree.data.formats import LIMITS, Limits
from normfree.data.sources.choice import choose
from normfree.data.sources.content import Places, ShardedContent
from normfree.data.sources.names import Names
from normfree.data.sources.parquet_index import arrow, index_parquet
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import Labels, Split
from normfree.errors import BadImageError, one_line, printable

_HELD = 2**28  # bytes of row groups that a process keeps
_LARGE = 2**26  # bytes of images in a row group that is slow to read from at random


@dataclass(frozen=True, eq=False)
class ParquetSource(ShardedContent):
    """Images in a column of Parquet files, whose row groups are read whole.

    Args:
        files: paths of the files.
        column: the column of the images.
        names: name of each image.
        group: row group of each image, numbered over all files.
        groups: file and number within it of each row group.
        rows: row of each image in its row group.
        labels: class index of each image, or its classes as a multi-hot row.
        classes: class names.
        notes: remarks for the user.
        limits: size limits of an image.
    """

    files: tuple[str, ...] = field(repr=False)
    column: str
    names: Names = field(repr=False)
    group: Int[np.ndarray, " n"] = field(repr=False)
    groups: Int[np.ndarray, "g 2"] = field(repr=False)
    rows: Int[np.ndarray, " n"] = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    channels: int = 3
    notes: tuple[str, ...] = ()
    limits: Limits = LIMITS

    def __len__(self) -> int:
        return len(self.names)

    @property
    def places(self) -> Places:
        """The row group of each image, and its row there."""
        return Places(self.group, self.rows, len(self.groups))

    def content(self, index: int) -> bytes:
        """The bytes of image ``index``.

        Raises:
            BadImageError: they cannot be read.
        """
        number, inside = self.groups[self.group[index]].tolist()
        try:
            found = _groups.column(self.files[number], inside, self.column)
            value = found[int(self.rows[index])].as_py()
        except Exception as error:  # Arrow's errors are of many kinds
            raise BadImageError(self.name(index), one_line(error)) from error
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None:
            raise BadImageError(self.name(index), "its bytes are missing")
        if len(content) > self.limits.max_bytes:
            raise BadImageError(
                self.name(index),
                f"it has {len(content):,} bytes, more than the {self.limits.max_bytes:,} allowed",
            )
        return content

    def name(self, index: int) -> str:
        """``file[group, row]: name``, escaped for display."""
        number, inside = self.groups[self.group[index]].tolist()
        place = f"{self.files[number]}[{inside}, {self.rows[index]}]"
        return printable(f"{place}: {self.names[index]}")


class _RowGroups:
    """The images of the row groups that this process read last."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, OrderedDict[tuple[str, int, str], Any]()

    def column(self, file: str, group: int, column: str) -> Any:
        """A column of a row group."""
        key = (file, group, column)
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        with arrow().ParquetFile(file) as opened:
            found = opened.read_row_group(group, columns=[column]).column(0)
        self.held[key] = found
        while len(self.held) > 1 and sum(held.nbytes for held in self.held.values()) > self.most:
            self.held.popitem(last=False)
        return found


_groups = _RowGroups(_HELD)


@register_source(
    "parquet", "PATTERN", splits=lambda argument: index_parquet(argument).table.available
)
def open_parquet(argument: str, split: Split, opening: Opening) -> ParquetSource:
    """The images in a column of Parquet files.

    The column ``image`` holds the bytes of files, or structures with a field ``bytes``, as Hugging
    Face writes them. Other columns are those of a CSV file (``label``, ``labels``, ``split``,
    ``group``) and ``name``, by which images are sorted; without it they keep their order. Reading
    an image reads its whole row group, so write about 100 rows in each. Remote files are kept in
    the cache.

    Args:
        argument: paths or URLs with braces and wildcards, and other names of columns behind ``#``.
            Without a column ``split``, a file belongs to the split that its name says. The classes
            are those of ``#classes=FILE``, of Hugging Face's metadata in the file, or the labels of
            the training images, sorted.
        split: ``train``, ``val`` or ``test``.
        opening: provides the classes if there are neither a list of them nor training images.

    Raises:
        UserError: pyarrow is missing, or a file or column is missing or of the wrong kind.
    """
    found = index_parquet(argument)
    chosen = choose(
        found.table, split, opening.classes, sort=found.named, fraction=opening.val_fraction
    )
    notes = chosen.notes
    if found.largest > _LARGE:
        notes += (
            f"warning: row groups of {found.largest / 1e6:.0f} MB are read whole for each image; "
            "write them with about 100 rows (row_group_size=100)",
        )
    return ParquetSource(
        files=found.files,
        column=found.column,
        names=found.table.names.take(chosen.rows),
        group=found.group[chosen.rows],
        groups=found.groups,
        rows=found.rows[chosen.rows],
        labels=chosen.labels,
        classes=chosen.classes,
        notes=notes,
        limits=opening.limits,
    )
