"""Where the images of a tar shard are, and what their labels are. Nothing is ever extracted."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from normfree.atomic import write_atomic
from normfree.data.files import open_regular
from normfree.data.formats import image_endings
from normfree.data.sources.names import Names
from normfree.data.sources.options import COLUMNS
from normfree.data.sources.remote import State
from normfree.errors import UserError, one_line, printable

_FORMAT = "1"
_MOST_LABEL = 2**20  # bytes of a .cls or .json
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class TarIndex:
    """The images of a shard, in its order.

    Attributes:
        names: the members that are images.
        offsets: where each begins in the shard.
        sizes: bytes of each.
        labels: what labels each, as JSON: a text, a number or a list of them.
        without_image: number of labels without an image.
        damage: why the shard cannot be read to its end; "" if it can.
    """

    names: Names
    offsets: Int[np.ndarray, " n"]
    sizes: Int[np.ndarray, " n"]
    labels: Names
    without_image: int = 0
    damage: str = ""

    def label(self, index: int) -> Any:
        """What labels an image."""
        return json.loads(self.labels[index])


@dataclass
class _Sample:
    """What a shard has under one key so far."""

    name: str | None = None
    offset: int = 0
    size: int = 0
    label: Any = None


def index_tar(path: Path, title: str, options: Mapping[str, str]) -> TarIndex:
    """Read the headers of a shard.

    Members of one sample share their name up to the first dot of its last part. The image is the
    member whose remaining name is an image's ending, or that of ``options["image"]``; the label is
    in ``.cls``, a name or a number, or in ``.json``, under ``label`` or ``labels``. Links and
    special members are ignored.

    Args:
        path: the shard.
        title: what messages call it.
        options: ``image``, ``label`` and ``labels``, as the user named them.

    Raises:
        UserError: it is not a tar file, or an image has no label.
    """
    samples: dict[str, _Sample] = {}
    damage = ""
    try:
        with open_regular(path) as file:
            for member, content in _members(file):
                _take(samples, member, content, options, title)
    except _DamagedError as error:
        damage = str(error)
    except OSError as error:
        raise UserError(f"cannot read {title}: {error.strerror or error}") from None
    with_image = {key: sample for key, sample in samples.items() if sample.name is not None}
    unlabeled = [key for key, sample in with_image.items() if sample.label is None]
    if damage and unlabeled:  # the label came after the damage
        for key in unlabeled:
            del with_image[key]
    elif unlabeled:
        raise UserError(
            f"{title}: {printable(unlabeled[0], 200)} has an image but no label: add "
            f"{printable(unlabeled[0], 100)}.cls or .json"
        )
    found = with_image.values()
    return TarIndex(
        names=Names.of(sample.name or "" for sample in found),
        offsets=np.array([sample.offset for sample in found], dtype=np.int64),
        sizes=np.array([sample.size for sample in found], dtype=np.int64),
        labels=Names.of(json.dumps(sample.label) for sample in found),
        without_image=len(samples) - len(with_image) - len(unlabeled) * bool(damage),
        damage=damage,
    )


class _DamagedError(Exception):
    """The rest of the shard cannot be read."""


def _members(file: BufferedReader) -> Iterator[tuple[tarfile.TarInfo, BufferedReader]]:
    """The regular members of a shard, and the file to read them from.

    Python's reader takes a damaged header for the end of the archive, so the end is checked.
    """
    size = os.fstat(file.fileno()).st_size
    count = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # they would all be kept
                if member.isreg() and not member.issparse():
                    if member.offset_data + member.size > size:
                        raise _DamagedError(f"it ends inside {printable(member.name, 200)}")
                    count += 1
                    yield member, file
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        if not count:
            raise UserError(
                f"{file.name} is not a tar file: {one_line(error)}; compressed ones cannot be read "
                "at any position: decompress it"
            ) from None
        raise _DamagedError(f"after {count} members: {one_line(error)}") from None
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise _DamagedError(f"after {count} members, at byte {end:,}: no header and no end mark")


def _take(
    samples: dict[str, _Sample],
    member: tarfile.TarInfo,
    file: BufferedReader,
    options: Mapping[str, str],
    title: str,
) -> None:
    """Add a member to its sample."""
    directory, _, base = member.name.removeprefix("./").rpartition("/")
    stem, _, ending = base.partition(".")
    if not stem or not ending:
        return  # hidden, or of no kind
    key = f"{directory}/{stem}" if directory else stem
    wanted = [options["image"]] if "image" in options else _IMAGES
    if ending.lower() in wanted:
        sample = samples.setdefault(key, _Sample())
        if sample.name is None:
            sample.name = member.name.removeprefix("./")
            sample.offset, sample.size = member.offset_data, member.size
    elif ending in ("cls", "json"):
        sample = samples.setdefault(key, _Sample())
        if member.size > _MOST_LABEL:
            raise UserError(f"{title}: {printable(member.name, 200)} is too large for a label")
        file.seek(member.offset_data)
        content = file.read(member.size)
        try:
            label = _cls(content) if ending == "cls" else _json(content, options)
        except (ValueError, RecursionError) as error:
            said = one_line(error)
            raise UserError(f"{title}: {printable(member.name, 200)}: {said}") from None
        sample.label = label if sample.label is None else sample.label


_IMAGES = frozenset(ending[1:] for ending in image_endings())


def _cls(content: bytes) -> str | int:
    text = content.decode().strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _json(content: bytes, options: Mapping[str, str]) -> Any:
    found = json.loads(content)
    if isinstance(found, dict):
        roles = ["labels"] if "labels" in options else ["label", "labels"]
        for role in roles:
            names = [options[role]] if role in options else COLUMNS[role]
            for name in names:
                if found.get(name) is not None:
                    return found[name]
    return None


def write_index(path: Path, index: TarIndex, state: State) -> None:
    """Keep an index for the next time.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors.numpy import save

    arrays = {name: getattr(index, name) for name in ("offsets", "sizes")}
    for name in ("names", "labels"):
        column: Names = getattr(index, name)
        arrays |= {f"{name}.blob": column.blob, f"{name}.offsets": column.offsets}
    metadata = {
        "format": _FORMAT,
        "size": str(state.size),
        "stamp": state.stamp,
        "without_image": str(index.without_image),
        "damage": index.damage,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save(arrays, metadata))


def read_index(path: Path, state: State) -> TarIndex | None:
    """An index that was kept; None if there is none, or the shard has changed since."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            said = file.metadata() or {}
            if (said.get("format"), said.get("size"), said.get("stamp")) != (
                _FORMAT,
                str(state.size),
                state.stamp,
            ):
                return None
            index = TarIndex(
                names=Names(*(file.get_tensor(f"names.{part}") for part in ("blob", "offsets"))),
                offsets=file.get_tensor("offsets"),
                sizes=file.get_tensor("sizes"),
                labels=Names(*(file.get_tensor(f"labels.{part}") for part in ("blob", "offsets"))),
                without_image=int(said["without_image"]),
                damage=said["damage"],
            )
            return index if _is_sound(index, state.size) else None
    except (OSError, SafetensorError, LookupError, ValueError, TypeError):
        return None  # it is made again


def _is_sound(index: TarIndex, size: int) -> bool:
    """Whether every position is inside what it points into."""
    ends = index.offsets + index.sizes
    texts = all(
        column.offsets[0] == 0
        and column.offsets[-1] == len(column.blob)
        and (np.diff(column.offsets) >= 0).all()
        for column in (index.names, index.labels)
    )
    inside = (index.offsets >= 0).all() and (index.sizes >= 0).all() and (ends <= size).all()
    counts = {len(index.names), len(index.labels), len(index.offsets), len(index.sizes)}
    return bool(texts and inside and len(counts) == 1)
