"""``csv:FILE`` and ``jsonl:FILE``: a table of image files with their labels."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from normfree.data.files import open_regular
from normfree.data.sources.choice import choose
from normfree.data.sources.class_names import read_classes
from normfree.data.sources.folder import FolderSource
from normfree.data.sources.names import Names
from normfree.data.sources.options import find_columns, split_options
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import Split
from normfree.data.sources.table import Table, TableBuilder
from normfree.errors import UserError, one_line

_OPTIONS = ("path", "label", "labels", "split", "group", "classes")
_ROLES = ("split", "group")
_LONGEST = 2**20  # characters of a line
_DELIMITERS = ",;\t"
_SEVERAL = "|"  # between the labels of an image in a CSV file


def _splits(kind: str, argument: str) -> tuple[Split, ...]:
    return _table(kind, argument)[1].available


@register_source("csv", "FILE", splits=partial(_splits, "csv"))
def open_csv(argument: str, split: Split, opening: Opening) -> FolderSource:
    """The images that a CSV file lists.

    The first line names the columns: ``path``, relative to the file; ``label``, or ``labels``
    separated by ``|``; optionally ``split`` (train, val, test) and ``group``. Images of a group,
    such as a patient, stay on one side if a part of the training images must validate, because no
    image has the split ``val``. The columns may be separated by commas, semicolons or tabs.

    Args:
        argument: ``FILE``, or with other names of columns ``FILE#path=file,label=species``. The
            file ``classes.txt`` beside it, or that of ``#classes=NAMES``, has the classes in their
            order, one a line; otherwise they are the labels of the training images, sorted.
        split: ``train``, ``val`` or ``test``.
        opening: provides the classes if there are neither a list of them nor training images.

    Raises:
        UserError: the file cannot be read, lacks a column or a value, or has an unknown label.
    """
    return _open("csv", argument, split, opening)


@register_source("jsonl", "FILE", splits=partial(_splits, "jsonl"))
def open_jsonl(argument: str, split: Split, opening: Opening) -> FolderSource:
    """The images that a file of JSON lists: one object a line, with the keys of :func:`open_csv`.

    ``label`` is a text or a whole number; ``labels`` is a list of them.

    Args:
        argument: see :func:`open_csv`.
        split: ``train``, ``val`` or ``test``.
        opening: see :func:`open_csv`.

    Raises:
        UserError: see :func:`open_csv`.
    """
    return _open("jsonl", argument, split, opening)


def _open(kind: str, argument: str, split: Split, opening: Opening) -> FolderSource:
    file, table = _table(kind, argument)
    if split not in table.available:
        raise UserError(f"{file} has no images whose split is {split}")
    chosen = choose(table, split, opening.classes, fraction=opening.val_fraction)
    names = table.names.take(chosen.rows)
    return FolderSource(
        files=_relative_to(file.parent, names),
        labels=chosen.labels,
        classes=chosen.classes,
        notes=(*chosen.notes, *_about_repeated(names, split)),
        limits=opening.limits,
    )


def _about_repeated(names: Names, split: Split) -> Iterator[str]:
    """Names are sorted, so equal ones are neighbors."""
    again = sum(names.encoded(index) == names.encoded(index - 1) for index in range(1, len(names)))
    if again:
        yield f"warning: {again} images of {split} are listed more than once"


def _relative_to(directory: Path, names: Names) -> Names:
    if any(os.path.isabs(name) for name in names):  # noqa: PTH117 - a million times
        return Names.of(os.path.join(directory, name) for name in names)  # noqa: PTH118
    return Names(names.blob, names.offsets, prefix=f"{directory}/")


def _table(kind: str, argument: str) -> tuple[Path, Table]:
    place, options = split_options(argument, _OPTIONS)
    try:
        file = Path(place).expanduser()
        status = file.stat()
    except (OSError, RuntimeError, ValueError) as error:
        said = getattr(error, "strerror", None) or one_line(error)
        raise UserError(f"cannot read {place}: {said}; name yours as {kind}:FILE") from None
    listed = file.parent / options.get("classes", "classes.txt")
    has_list = "classes" in options or listed.is_file()
    classes = read_classes(listed) if has_list else ()
    state = status.st_mtime_ns, status.st_size
    return file, _read(kind, file, tuple(sorted(options.items())), classes, state)


@lru_cache(maxsize=1)  # each split of a run is opened by itself
def _read(
    kind: str,
    file: Path,
    options: tuple[tuple[str, str], ...],
    listed: tuple[str, ...],
    state: tuple[int, int],
) -> Table:
    try:
        with (
            open_regular(file) as content,
            io.TextIOWrapper(content, "utf-8-sig", "surrogateescape", newline="") as text,
        ):
            read = _from_csv if kind == "csv" else _from_json
            return read(_lines(text, file), file, dict(options)).built(listed)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from None


def _lines(text: io.TextIOWrapper, file: Path) -> Iterator[str]:
    number = 0
    while line := text.readline(_LONGEST + 1):
        number += 1
        if len(line) > _LONGEST:
            raise UserError(f"{file}, line {number}: it has more than {_LONGEST:,} characters")
        yield line


def _from_csv(lines: Iterator[str], file: Path, options: Mapping[str, str]) -> TableBuilder:
    first = next(lines, "")
    delimiter = max(_DELIMITERS, key=first.count)
    columns = next(csv.reader([first], delimiter=delimiter), [])
    roles = find_columns(columns, options, required=["path"], optional=_ROLES, file=str(file))
    place = {role: columns.index(column) for role, column in roles.items()}
    builder = _builder(file, roles)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                values = {role: row[at] if at < len(row) else None for role, at in place.items()}
                if builder.several:
                    values["labels"] = _parted(values["labels"])
                _add(builder, values, f"{file}, line {reader.line_num + 1}")
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num + 1}: {error}") from None
    return builder


def _parted(text: str | None) -> Any:
    """The labels of an image, each once; there may be none."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(_SEVERAL)]
    return [] if parts == [""] else parts


def _from_json(lines: Iterator[str], file: Path, options: Mapping[str, str]) -> TableBuilder:
    builder, roles, keys = None, dict[str, str](), dict[str, None]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: it is not JSON: {one_line(error)}") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: it should be an object such as {{'path': …, 'label': …}}")
        if not row.keys() <= keys.keys():
            keys |= dict.fromkeys(row)
            found = find_columns(keys, options, required=["path"], optional=_ROLES, file=where)
            if builder is not None and found != roles:
                new = ", ".join(sorted(found.keys() - roles.keys())) or "other columns"
                raise UserError(f"{where}: it has {new}, which the lines before lack")
            builder, roles = builder or _builder(file, found), found
        assert builder is not None
        _add(builder, {role: row.get(key) for role, key in roles.items()}, where)
    if builder is None:
        raise UserError(f"{file} has no images")
    return builder


def _builder(file: Path, roles: Mapping[str, str]) -> TableBuilder:
    return TableBuilder(
        str(file), several="labels" in roles, splits="split" in roles, groups="group" in roles
    )


def _add(builder: TableBuilder, values: Mapping[str, Any], where: str) -> None:
    path = values["path"]
    if not isinstance(path, str) or not path or "\0" in path:
        said = "the path is missing" if not path else f"no path: {path!r:.60}"
        raise UserError(f"{where}: {said}")
    builder.add_row(path, values, where)
