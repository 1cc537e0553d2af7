"""Everything about the images of Parquet files but their contents: names, labels, row groups."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from normfree.data.sources.class_names import described_classes, read_classes
from normfree.data.sources.options import find_columns, split_options
from normfree.data.sources.patterns import expand_files, file_splits
from normfree.data.sources.remote import State, download, is_remote, remote_state
from normfree.data.sources.source import Split
from normfree.data.sources.table import Table, TableBuilder
from normfree.errors import UserError, one_line, printable

_OPTIONS = ("image", "name", "label", "labels", "split", "group", "classes")
_ROLES = ("name", "split", "group")


class ParquetIndex(NamedTuple):
    """What is known of the files of a pattern.

    Attributes:
        files: their paths on this machine.
        table: names and labels of the images.
        column: the column of the images.
        named: whether there is a column of names.
        group: row group of each image, numbered over all files.
        groups: file and number within it of each row group.
        rows: row of each image in its row group.
        largest: bytes of the largest row group.
    """

    files: tuple[str, ...]
    table: Table
    column: str
    named: bool
    group: Int[np.ndarray, " n"]
    groups: Int[np.ndarray, "g 2"]
    rows: Int[np.ndarray, " n"]
    largest: int


def index_parquet(argument: str) -> ParquetIndex:
    """The index of the files that the argument of a source names.

    Raises:
        UserError: pyarrow is missing, or a file or column is missing or of the wrong kind.
    """
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
) -> ParquetIndex:
    title = f"parquet:{printable(argument, 200)}"
    splits = file_splits(list(names), title)
    parquet, roles, builder = arrow(), dict[str, str](), None
    groups: list[tuple[int, int]] = []
    counts: list[int] = []
    largest = 0
    for number, file in enumerate(files):
        try:
            with parquet.ParquetFile(file) as opened:
                schema = opened.schema_arrow
                found = _roles(schema, dict(options), names[number])
                if builder is None:
                    roles, builder = found, _builder(title, found, splits is not None)
                    listed = listed or described_classes(_features(schema), found)
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
    return ParquetIndex(
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


def arrow() -> ModuleType:
    """The library that reads Parquet files.

    Raises:
        UserError: it is not installed.
    """
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
