"""``parquet:PATTERN``: images and labels in the columns of Parquet files."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from normfree.data.formats import LIMITS, Limits
from normfree.data.sources.content import DecodedContent
from normfree.data.sources.names import Names
from normfree.data.sources.options import find_columns, split_options
from normfree.data.sources.patterns import expand_files, file_splits
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.remote import State, download, is_remote, remote_state
from normfree.data.sources.source import Labels, Split
from normfree.data.sources.table import Table, TableBuilder, check_class, choose, read_classes
from normfree.errors import BadImageError, UserError, one_line, printable

_OPTIONS = ("image", "name", "label", "labels", "split", "group", "classes")
_ROLES = ("name", "split", "group")
_HELD = 2**28  # bytes of row groups that a process keeps
_LARGE = 2**26  # bytes of images in a row group that is slow to read from at random


@dataclass(frozen=True, eq=False)
class ParquetSource(DecodedContent):
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
    def shards(self) -> Int[np.ndarray, " g"]:
        """Number of images in each row group."""
        return np.bincount(self.group, minlength=len(self.groups))

    @cached_property
    def by_shard(self) -> Int[np.ndarray, " n"]:
        """The images in the order of the row groups and of their rows."""
        return np.lexsort((self.rows, self.group))

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
        with _arrow().ParquetFile(file) as opened:
            found = opened.read_row_group(group, columns=[column]).column(0)
        self.held[key] = found
        while len(self.held) > 1 and sum(held.nbytes for held in self.held.values()) > self.most:
            self.held.popitem(last=False)
        return found


_groups = _RowGroups(_HELD)


class _Files(NamedTuple):
    """Everything that is known of the files of a pattern."""

    files: tuple[str, ...]
    table: Table
    column: str
    named: bool
    group: Int[np.ndarray, " n"]
    groups: Int[np.ndarray, "g 2"]
    rows: Int[np.ndarray, " n"]
    largest: int


@register_source("parquet", "PATTERN", splits=lambda argument: _files(argument).table.available)
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
    found = _files(argument)
    chosen = choose(found.table, split, opening.classes, sort=found.named)
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


def _files(argument: str) -> _Files:
    pattern, options = split_options(argument, _OPTIONS)
    names = expand_files(pattern, "parquet")
    files, states = zip(*map(_local, names), strict=True)
    listed = read_classes(Path(options["classes"]).expanduser()) if "classes" in options else ()
    chosen = tuple(sorted(options.items()))
    return _read(argument, tuple(names), files, states, chosen, listed)


@lru_cache(maxsize=1)  # each split of a run is opened by itself
def _read(
    argument: str,
    names: tuple[str, ...],
    files: tuple[str, ...],
    states: tuple[State, ...],
    options: tuple[tuple[str, str], ...],
    listed: tuple[str, ...],
) -> _Files:
    title = f"parquet:{printable(argument, 200)}"
    splits = file_splits(list(names), title)
    arrow, roles, builder = _arrow(), dict[str, str](), None
    groups: list[tuple[int, int]] = []
    counts: list[int] = []
    largest = 0
    for number, file in enumerate(files):
        try:
            with arrow.ParquetFile(file) as opened:
                schema = opened.schema_arrow
                found = _roles(schema, dict(options), names[number])
                if builder is None:
                    roles, builder = found, _builder(title, found, splits is not None)
                    listed = listed or class_list(_features(schema), found)
                elif found != roles:
                    raise UserError(f"{names[number]} has other columns than {names[0]}")
                for inside in range(opened.num_row_groups):
                    where = f"{names[number]}, row group {inside}"
                    chunk = opened.read_row_group(
                        inside,
                        columns=[column for role, column in roles.items() if role != "image"],
                    )
                    columns = {
                        role: chunk[column].to_pylist()
                        for role, column in roles.items()
                        if role != "image"
                    }
                    _add(builder, columns, None if splits is None else splits[number], where)
                    groups.append((number, inside))
                    counts.append(chunk.num_rows)
                    largest = max(largest, opened.metadata.row_group(inside).total_byte_size)
        except UserError:
            raise
        except Exception as error:  # Arrow's errors are of many kinds
            raise UserError(f"cannot read {names[number]}: {one_line(error)}") from None
    assert builder is not None
    return _Files(
        files=files,
        table=builder.built(listed),
        column=roles["image"],
        named="name" in roles,
        group=np.repeat(np.arange(len(groups), dtype=np.int32), counts),
        groups=np.array(groups, dtype=np.int64).reshape(-1, 2),
        rows=np.concatenate([np.arange(count, dtype=np.int32) for count in counts or [0]]),
        largest=largest,
    )


def _roles(schema: Any, options: Mapping[str, str], file: str) -> dict[str, str]:
    roles = find_columns(schema.names, options, required=["image"], optional=_ROLES, file=file)
    if roles.get("name") == roles["image"]:
        del roles["name"]
    kind = schema.field(roles["image"]).type
    types = _arrow_types()
    inner = (
        kind.field("bytes").type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        else kind
    )
    if not (types.is_binary(inner) or types.is_large_binary(inner)):
        raise UserError(
            f"the column {roles['image']} of {file} should hold the bytes of image files; it holds "
            f"{kind!s:.100}"
        )
    return roles


def _builder(title: str, roles: Mapping[str, str], by_file: bool) -> TableBuilder:
    return TableBuilder(
        title,
        several="labels" in roles,
        splits="split" in roles or by_file,
        groups="group" in roles,
    )


def _add(
    builder: TableBuilder, columns: Mapping[str, Sequence[Any]], split: Split | None, where: str
) -> None:
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        name = row.get("name", f"{len(builder.names):09}")
        if not isinstance(name, str):
            raise UserError(f"{where}: the name should be a text; got {name!r:.60}")
        builder.add_row(name, {"split": split, **row}, where)


def class_list(features: Mapping[str, Any], roles: Mapping[str, str]) -> tuple[str, ...]:
    """The classes in Hugging Face's description of the columns, if it has them.

    >>> label = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    >>> class_list({"label": label}, {"label": "label"})
    ('cat', 'dog')
    >>> class_list({"tags": {"feature": label, "_type": "List"}}, {"labels": "tags"})
    ('cat', 'dog')
    """
    found = features.get(roles.get("label", roles.get("labels", "")))
    if isinstance(found, dict) and isinstance(found.get("feature"), dict):
        found = found["feature"]
    names = found.get("names") if isinstance(found, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    for name in names:
        check_class(name)
    return tuple(names)


def _features(schema: Any) -> Mapping[str, Any]:
    """What Hugging Face says of the columns of a file."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said["info"]["features"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _local(name: str) -> tuple[str, State]:
    """A file on this machine, and what tells whether it has changed."""
    if not is_remote(name):
        try:
            status = Path(name).stat()
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or one_line(error)
            raise UserError(f"cannot read {printable(name, 200)}: {said}") from None
        return name, State(status.st_size, str(status.st_mtime_ns))
    state = remote_state(name)
    file = download(name, state)
    if file.suffix == ".part":
        file.unlink()
        raise UserError(
            f"{printable(name, 200)} does not fit into the cache: raise NORMFREE_CACHE_BYTES"
        )
    return str(file), state


def _arrow() -> ModuleType:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "the source 'parquet' needs pyarrow: pip install 'normfree[parquet]'"
        ) from error
    return pyarrow.parquet


def _arrow_types() -> ModuleType:
    import pyarrow.types

    return pyarrow.types
