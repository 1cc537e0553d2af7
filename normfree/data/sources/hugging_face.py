"""``hf:NAME_OR_DIR``: a Hugging Face dataset, saved in a directory or on the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from normfree.data.files import read_regular
from normfree.data.formats import LIMITS, Limits
from normfree.data.sources.choice import choose
from normfree.data.sources.class_names import described_classes, read_classes
from normfree.data.sources.content import DecodedContent
from normfree.data.sources.names import Names
from normfree.data.sources.options import find_columns, split_options
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import Labels, Split
from normfree.data.sources.table import SPELLED, Table, TableBuilder
from normfree.errors import BadImageError, UserError, one_line, printable

_OPTIONS = ("config", "image", "name", "label", "labels", "split", "group", "classes")
_ROLES = ("name", "split", "group")
_CHUNK = 10_000


@dataclass(frozen=True, eq=False)
class HuggingFaceSource(DecodedContent):
    """Images of a Hugging Face dataset, whose Arrow files are mapped into memory.

    Args:
        title: name of the dataset in messages.
        parts: its parts, one for each split it has.
        column: the column of the images.
        names: name of each image.
        part: part of each image.
        rows: row of each image in its part.
        labels: class index of each image, or its classes as a multi-hot row.
        classes: class names.
        notes: remarks for the user.
        limits: size limits of an image.
    """

    title: str
    parts: Mapping[str, Any] = field(repr=False)
    column: str
    names: Names = field(repr=False)
    part: Int[np.ndarray, " n"] = field(repr=False)
    rows: Int[np.ndarray, " n"] = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    channels: int = 3
    notes: tuple[str, ...] = ()
    limits: Limits = LIMITS

    def __len__(self) -> int:
        return len(self.names)

    def content(self, index: int) -> bytes:
        """The bytes of image ``index``, from the dataset or from the file that it names.

        Raises:
            BadImageError: they cannot be read.
        """
        part = list(self.parts.values())[self.part[index]]
        try:
            value = part[int(self.rows[index])][self.column]
            if isinstance(value, dict):
                path = value.get("path")
                value = value.get("bytes")
                if value is None and path is not None:
                    value = read_regular(Path(path), self.limits.max_bytes)
        except OSError as error:
            raise BadImageError(self.name(index), error.strerror or one_line(error)) from error
        except Exception as error:  # Arrow's errors are of many kinds
            raise BadImageError(self.name(index), one_line(error)) from error
        if not isinstance(value, bytes):
            raise BadImageError(self.name(index), "its bytes are missing")
        return value

    def name(self, index: int) -> str:
        """``dataset/part[row]: name``, escaped for display."""
        part = list(self.parts)[self.part[index]]
        return printable(f"{self.title}/{part}[{self.rows[index]}]: {self.names[index]}")


class _Dataset(NamedTuple):
    """A dataset that is open."""

    parts: dict[str, Any]
    table: Table
    column: str
    named: bool
    part: Int[np.ndarray, " n"]
    rows: Int[np.ndarray, " n"]


@register_source("hf", "NAME_OR_DIR", splits=lambda argument: _dataset(argument).table.available)
def open_hugging_face(argument: str, split: Split, opening: Opening) -> HuggingFaceSource:
    """The images of a Hugging Face dataset.

    A directory is what ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote; any other
    name is that of a dataset on the hub. Images are not decoded by the library, and no code of a
    dataset is run. Columns are found as in a Parquet file; splits are the dataset's own.

    Args:
        argument: a directory or name, with ``#config=NAME`` for one of its configurations and other
            names of columns behind ``#``. The classes are those of ``#classes=FILE``, of a
            ``ClassLabel``, or the labels of the training images, sorted.
        split: ``train``, ``val`` or ``test``.
        opening: provides the classes if there are neither a list of them nor training images.

    Raises:
        UserError: the library is missing, or the dataset or a column is missing or of the wrong
            kind.
    """
    found = _dataset(argument)
    chosen = choose(
        found.table, split, opening.classes, sort=found.named, fraction=opening.val_fraction
    )
    return HuggingFaceSource(
        title=found.table.title,
        parts=found.parts,
        column=found.column,
        names=found.table.names.take(chosen.rows),
        part=found.part[chosen.rows],
        rows=found.rows[chosen.rows],
        labels=chosen.labels,
        classes=chosen.classes,
        notes=chosen.notes,
        limits=opening.limits,
    )


def _dataset(argument: str) -> _Dataset:
    name, options = split_options(argument, _OPTIONS)
    listed = read_classes(Path(options["classes"]).expanduser()) if "classes" in options else ()
    return _opened(name, tuple(sorted(options.items())), listed, _changed(name))


def _changed(name: str) -> tuple[int, ...]:
    """When the files of a saved dataset were written."""
    try:
        files = sorted(Path(name).expanduser().rglob("*.json"))
        return tuple(file.stat().st_mtime_ns for file in files)
    except (OSError, ValueError, RuntimeError):
        return ()


@lru_cache(maxsize=1)  # each split of a run is opened by itself
def _opened(
    name: str,
    options: tuple[tuple[str, str], ...],
    listed: tuple[str, ...],
    changed: tuple[int, ...],
) -> _Dataset:
    title, given = f"hf:{printable(name, 200)}", dict(options)
    parts = _load(name, given.pop("config", None))
    splits = {part: SPELLED.get(part.lower(), "train") for part in parts}
    if len(parts) > 1:  # the only part trains, whatever its name
        parts = {part: data for part, data in parts.items() if part.lower() in SPELLED}
    if not parts:
        raise UserError(f"{title} has the splits {', '.join(splits)}, and none is train or val")
    first = next(iter(parts.values()))
    roles = _roles(first.features, given, title)
    builder = TableBuilder(title, several="labels" in roles, splits=True, groups="group" in roles)
    for part, data in parts.items():
        for row, values in enumerate(_rows(data, roles)):
            name = str(values.get("name", f"{len(builder.names):09}"))
            where = f"{title}/{part}[{row}]"
            builder.add_row(name, {"split": splits[part], **values}, where)
    counts = [len(data) for data in parts.values()]
    return _Dataset(
        parts={part: _encoded(data, roles["image"]) for part, data in parts.items()},
        table=builder.built(listed or described_classes(first.features.to_dict(), roles)),
        column=roles["image"],
        named="name" in roles,
        part=np.repeat(np.arange(len(parts)), counts),
        rows=np.concatenate([np.arange(count) for count in counts]),
    )


def _load(name: str, config: str | None) -> dict[str, Any]:
    """The parts of a dataset."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "the source 'hf' needs the library datasets: pip install 'normfree[hf]'"
        ) from error
    datasets.disable_progress_bars()
    try:
        directory = Path(name).expanduser()
        if directory.is_dir():
            found = datasets.load_from_disk(str(directory))
        else:
            found = datasets.load_dataset(name, config)
    except Exception as error:  # of many kinds, from files, from Arrow and from the network
        raise UserError(f"cannot open hf:{printable(name, 200)}: {one_line(error)}") from None
    return dict(found) if isinstance(found, dict) else {"train": found}


def _roles(features: Mapping[str, Any], options: Mapping[str, str], title: str) -> dict[str, str]:
    import datasets

    images = [c for c, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(images) == 1:
        options = {"image": images[0], **options}
    roles = find_columns(features, options, required=["image"], optional=_ROLES, file=title)
    if roles.get("name") == roles["image"]:
        del roles["name"]
    feature = features[roles["image"]]
    if not isinstance(feature, datasets.Image) and getattr(feature, "dtype", "") not in (
        "binary",
        "large_binary",
    ):
        raise UserError(f"the column {roles['image']} of {title} has no images: {feature!r:.100}")
    return roles


def _rows(data: Any, roles: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    """The values of each row but the image, by role."""
    wanted = {role: column for role, column in roles.items() if role != "image"}
    for chunk in data.select_columns(list(wanted.values())).with_format(None).iter(_CHUNK):
        columns = [chunk[column] for column in wanted.values()]
        for values in zip(*columns, strict=True):
            yield dict(zip(wanted, values, strict=True))


def _encoded(data: Any, column: str) -> Any:
    """The dataset with images as bytes, and nothing else."""
    import datasets

    data = data.select_columns([column]).with_format(None)
    if isinstance(data.features[column], datasets.Image):
        return data.cast_column(column, datasets.Image(decode=False))
    return data
