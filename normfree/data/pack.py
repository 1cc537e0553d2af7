"""Packs: one memory-mapped file of images that are decoded and resized already, or still encoded.

Reading an image of a raw pack is no more than an address: the system reads its pages when a crop
touches them, and keeps them while there is memory.

The file begins with 64 bytes: the magic, where the header is, and checksums. The data of all images
follow, one image behind the other; then arrays (*blocks*) with the position, size, checksum, label
and name of each image; then the header in JSON, which says where the blocks are. Integers are
little-endian. Nothing in the file is code, and everything that is read when the file is opened is
checked against checksums and bounds. The checksum of an image is compared when it is decoded; that
of raw pixels, which would take longer than to use them, by :meth:`PackSource.verify`.

Differs from: FFCV's ``.beton``, whose pages hold pointers that are not checked, and which needs
OpenCV, Numba and a compiler; MosaicML Streaming's shards, which are decoded again in each epoch.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from normfree.data.decode import decode
from normfree.data.files import open_regular
from normfree.data.formats import LIMITS, Limits
from normfree.errors import BadImageError, UserError, printable
from normfree.schema import Field, from_plain, record

Encoding: TypeAlias = Literal["raw", "jpeg"]
"""``raw``: uint8 pixels, channels last. ``jpeg``: image files, JPEG unless kept as they were."""

MAGIC = b"normfree pack 1\n"
PREAMBLE = struct.Struct("<16sQQI")  # magic, header's offset, length and checksum
START = 64  # of the data
_MOST_HEADER = 2**26

#: Name of a block → its type; ``?`` instead of ``<i8`` for several labels an image.
BLOCKS: Mapping[str, tuple[str, ...]] = {
    "begins": ("<i8",),
    "lengths": ("<i8",),
    "checksums": ("<u4",),
    "heights": ("<u4",),
    "widths": ("<u4",),
    "labels": ("<i8", "|b1"),
    "name_ends": ("<i8",),
    "names": ("|u1",),
}


@record
class Block:
    """An array in the file."""

    offset: int = Field(ge=0)
    shape: tuple[int, ...] = Field(max_length=2)
    dtype: str
    checksum: int


@record
class Header:
    """What a pack says about itself."""

    encoding: Encoding
    channels: int = Field(ge=1, le=2**12)
    classes: tuple[str, ...]
    source: str
    """What it was made of."""
    short_side: int | None
    square: bool
    splits: dict[Literal["train", "val", "test"], dict[str, Block]]


class _Mapped(NamedTuple):
    header: Header
    memory: mmap.mmap
    end: int  # of the images' data


def read_header(path: Path) -> Header:
    """What a pack says about itself.

    Raises:
        UserError: the file cannot be read, or is not a complete pack.
    """
    return _mapped(path).header


def _mapped(path: Path) -> _Mapped:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size < START:
                raise _damaged(path, "it is too small")
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UserError(f"cannot read the pack {path}: {error.strerror or error}") from None
    if memory[: len(MAGIC)] != MAGIC:
        raise UserError(f"{path} is not a pack: make one by `normfree pack SOURCE {path}`")
    _, offset, length, checksum = PREAMBLE.unpack(memory[: PREAMBLE.size])
    if not START <= offset <= size - length or length > _MOST_HEADER:
        raise _damaged(path, "it is truncated")
    content = memory[offset : offset + length]
    if zlib.crc32(content) != checksum:
        raise _damaged(path, "its header does not match its checksum")
    try:
        header = from_plain(Header, json.loads(content))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    return _Mapped(header, memory, offset)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"the pack {path} is damaged: {reason}; copy it again or make it again")


def open_pack(
    path: Path, split: str, limits: Limits = LIMITS, *, checked: bool = True
) -> PackSource:
    """Open a split of a pack.

    Args:
        path: the file.
        split: ``train``, ``val`` or ``test``.
        limits: size limits of an image.
        checked: whether the blocks are compared with their checksums.

    Raises:
        UserError: the file cannot be read, is damaged, or has no such split.
    """
    header, memory, end = _mapped(path)
    blocks = header.splits.get(split)  # type: ignore[call-overload]
    if blocks is None:
        raise UserError(f"the pack {path} has no {split} images, only {', '.join(header.splits)}")
    try:
        arrays = {name: _block(memory, end, blocks, name, checked=checked) for name in BLOCKS}
        _check(header, arrays, end, limits)
    except _BlockError as error:
        raise _damaged(path, f"{split}: {error}") from None
    return PackSource(path=path, split=split, header=header, memory=memory, limits=limits, **arrays)


class _BlockError(Exception):
    """What is wrong with a block."""


def _block(
    memory: mmap.mmap, end: int, blocks: Mapping[str, Block], name: str, *, checked: bool
) -> Shaped[np.ndarray, "..."]:
    block = blocks.get(name)
    if block is None or block.dtype not in BLOCKS[name]:
        raise _BlockError(f"its {name} are missing or of another type")
    count = 1
    for side in block.shape:
        count *= side
    nbytes = count * np.dtype(block.dtype).itemsize
    if min(block.shape, default=-1) < 0 or block.offset % 8 or block.offset + nbytes > end:
        raise _BlockError(f"its {name} are out of bounds")
    array = np.ndarray(block.shape, block.dtype, memory, block.offset)
    if checked and zlib.crc32(array.reshape(-1).view(np.uint8).data) != block.checksum:
        raise _BlockError(f"its {name} do not match their checksum")
    return array


def _check(header: Header, arrays: Mapping[str, np.ndarray], end: int, limits: Limits) -> None:
    """Check that every image lies inside the file and has a label and a name."""
    begins, lengths = arrays["begins"], arrays["lengths"]
    several = arrays["labels"].dtype == bool
    for name, array in arrays.items():
        dimensions = 2 if name == "labels" and several else 1
        if array.ndim != dimensions or (name != "names" and len(array) != len(begins)):
            raise _BlockError(f"its {name} have the shape {array.shape}, for {len(begins)} images")
    _check_labels(arrays["labels"], len(header.classes))
    ends = arrays["name_ends"]
    if np.any(np.diff(ends, prepend=0) < 0) or ends[-1:].sum() > len(arrays["names"]):
        raise _BlockError("its names are out of bounds")
    if np.any((begins < START) | (lengths < 0) | (lengths > end) | (begins > end - lengths)):
        raise _BlockError("an image is out of bounds")
    if header.encoding == "raw":
        _check_sizes(header.channels, arrays, limits)


def _check_labels(labels: Shaped[np.ndarray, "n *k"], classes: int) -> None:
    if labels.dtype == bool:
        if labels.shape[1] != classes or labels.view(np.uint8).max(initial=0) > 1:
            raise _BlockError(f"its labels are not truth values for {classes} classes")
    elif np.any((labels < 0) | (labels >= classes)):
        raise _BlockError(f"a label is not one of its {classes} classes")


def _check_sizes(channels: int, arrays: Mapping[str, np.ndarray], limits: Limits) -> None:
    heights, widths = (arrays[name].astype(np.int64) for name in ("heights", "widths"))
    if np.any((heights < 1) | (widths < 1) | (np.maximum(heights, widths) > limits.max_side)):
        raise _BlockError(f"an image has no pixels, or a side beyond {limits.max_side} (max_side)")
    if np.any(heights * widths > limits.max_pixels):
        raise _BlockError(f"an image has more than {limits.max_pixels:,} pixels (max_pixels)")
    if np.any(heights * widths * channels != arrays["lengths"]):
        raise _BlockError("the size of an image does not match its pixels")


@dataclass(frozen=True, eq=False, kw_only=True)
class PackSource:
    """The images of a split of a pack; open one by :func:`open_pack`.

    Attributes:
        path: the file.
        split: which images.
        header: what the pack says about itself.
        limits: size limits of an image.
    """

    path: Path
    split: str
    header: Header = field(repr=False)
    memory: mmap.mmap = field(repr=False)
    limits: Limits = LIMITS
    begins: Int[np.ndarray, " n"] = field(repr=False)
    lengths: Int[np.ndarray, " n"] = field(repr=False)
    checksums: Int[np.ndarray, " n"] = field(repr=False)
    heights: Int[np.ndarray, " n"] = field(repr=False)
    widths: Int[np.ndarray, " n"] = field(repr=False)
    labels: Shaped[np.ndarray, " n *k"] = field(repr=False)
    name_ends: Int[np.ndarray, " n"] = field(repr=False)
    names: UInt8[np.ndarray, " bytes"] = field(repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        """Other processes map the file themselves."""
        return _opened_again, (self.path.absolute(), self.split, self.limits)

    def __len__(self) -> int:
        return len(self.begins)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.header.classes

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for RGB."""
        return self.header.channels

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Image ``index``; raw pixels are a read-only view of the file.

        Raises:
            BadImageError: an encoded image is damaged.
        """
        if self.header.encoding == "raw":
            shape = int(self.heights[index]), int(self.widths[index]), self.channels
            return np.ndarray(shape, np.uint8, self.memory, int(self.begins[index]))
        return decode(
            self.content(index), channels=self.channels, name=self.name(index), limits=self.limits
        )

    def content(self, index: int) -> bytes:
        """The bytes of image ``index``, which are those that were written.

        Raises:
            BadImageError: they do not match their checksum.
        """
        begin, length = int(self.begins[index]), int(self.lengths[index])
        content = self.memory[begin : begin + length]
        if zlib.crc32(content) != self.checksums[index]:
            raise BadImageError(self.name(index), f"damaged in {self.path}: checksum mismatch")
        return content

    def name(self, index: int) -> str:
        """The name that image ``index`` had in the source of the pack."""
        begin = int(self.name_ends[index - 1]) if index else 0
        name = self.names[begin : int(self.name_ends[index])].tobytes()
        return printable(name.decode("utf-8", "backslashreplace"))

    def verify(self) -> Iterator[BadImageError]:
        """Compare every image with its checksum, and yield an error for each damaged one."""
        for index in range(len(self)):
            try:
                self.content(index)
            except BadImageError as error:
                yield error


def _opened_again(path: Path, split: str, limits: Limits) -> PackSource:
    return open_pack(path, split, limits, checked=False)
