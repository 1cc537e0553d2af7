"""Write packs: each image is read, resized and encoded once, by as many processes as there are."""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from normfree.atomic import atomic_file
from normfree.data.bad_images import BadImages
from normfree.data.pack import BLOCKS, MAGIC, PREAMBLE, START, Block, Header
from normfree.data.packing import CHUNK, Packed, Packer, Packing
from normfree.data.sources.source import Source, Split
from normfree.data.workers import Workers
from normfree.errors import UserError
from normfree.schema import to_plain

_PREFETCH = 1 << 28  # bytes
_ALIGNMENT = 64


@dataclass
class _Columns:
    """What is known of each image of a split."""

    begins: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    checksums: array[int] = field(default_factory=lambda: array("I"))
    heights: array[int] = field(default_factory=lambda: array("I"))
    widths: array[int] = field(default_factory=lambda: array("I"))
    name_ends: array[int] = field(default_factory=lambda: array("q"))
    indices: array[int] = field(default_factory=lambda: array("q"))
    names: bytearray = field(default_factory=bytearray)

    def add(self, packed: Packed, begin: int, source: Source) -> None:
        content = packed.content.numpy().data
        first = begin
        rows = zip(packed.lengths, packed.sides, packed.indices, strict=True)
        for length, (height, width), index in rows:
            self.checksums.append(zlib.crc32(content[begin - first : begin - first + length]))
            self.begins.append(begin)
            self.lengths.append(length)
            self.heights.append(height)
            self.widths.append(width)
            self.indices.append(index)
            self.names += source.name(index).encode("utf-8", "backslashreplace")
            self.name_ends.append(len(self.names))
            begin += length

    def arrays(self, source: Source) -> dict[str, np.ndarray]:
        """The blocks, in the types of the file."""
        labels = source.labels[np.array(self.indices, dtype=np.int64)]
        found: dict[str, np.ndarray] = {"names": np.frombuffer(bytes(self.names), np.uint8)}
        found["labels"] = labels if labels.dtype == bool else labels.astype("<i8")
        for name, (dtype, *_) in BLOCKS.items():
            if name not in found:
                found[name] = np.array(getattr(self, name), dtype=dtype)
        return found


def write_pack(
    path: Path,
    sources: Mapping[Split, Source],
    packing: Packing,
    *,
    made_of: str,
    workers: int | Workers = 0,
    bad_images: BadImages | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> None:
    """Write the images of a source, all its splits, as a pack.

    The file appears when it is complete.

    Args:
        path: the file.
        sources: split → its images. All have the same classes.
        packing: how images are stored.
        made_of: the description of the source.
        workers: number of processes, or processes that are running.
        bad_images: a log for the images that cannot be read, which are left out; without it, the
            first one is an error.
        advance: called with a number of images that are done.

    Raises:
        BadImageError: an image cannot be read.
        UserError: the sources have different classes, or no image can be read.
    """
    first = next(iter(sources.values()))
    if any(source.classes != first.classes for source in sources.values()):
        raise UserError(f"the splits of {made_of} have different classes: they cannot be one pack")
    pool = Workers(workers) if isinstance(workers, int) and workers else None
    running = workers if isinstance(workers, Workers) else pool
    try:
        with atomic_file(path) as file:
            file.write(bytes(START))
            columns = {
                split: _write_images(file, source, packing, running, bad_images, advance)
                for split, source in sources.items()
            }
            _write_end(file, columns, sources, packing, made_of)
    finally:
        if pool is not None:
            pool.close()


def _write_end(
    file: BinaryIO,
    columns: Mapping[Split, _Columns],
    sources: Mapping[Split, Source],
    packing: Packing,
    made_of: str,
) -> None:
    """The blocks, the header, and where it is."""
    blocks: dict[Split, dict[str, Block]] = {
        split: {
            name: _write_block(file, values)
            for name, values in column.arrays(sources[split]).items()
        }
        for split, column in columns.items()
    }
    first = next(iter(sources.values()))
    header = Header(
        encoding=packing.encoding,
        channels=first.channels,
        classes=tuple(first.classes),
        source=made_of,
        short_side=packing.short_side,
        square=packing.square,
        splits=blocks,
    )
    content = json.dumps(to_plain(header)).encode()
    offset = file.tell()
    file.write(content)
    file.seek(0)
    file.write(PREAMBLE.pack(MAGIC, offset, len(content), zlib.crc32(content)))


def _write_images(
    file: BinaryIO,
    source: Source,
    packing: Packing,
    workers: Workers | None,
    bad_images: BadImages | None,
    advance: Callable[[int], None],
) -> _Columns:
    columns, packer = _Columns(), Packer(source, packing)
    numbers = range(-(-len(source) // CHUNK))
    with closing(_chunks(packer, numbers, workers)) as chunks:
        for packed in chunks:
            for error in packed.bad:
                if bad_images is None:
                    raise error
                bad_images.add(error)
            columns.add(packed, file.tell(), source)
            file.write(packed.content.numpy().data)
            advance(len(packed.indices) + len(packed.bad))
    if len(source) and not columns.begins:
        raise UserError(f"none of the {len(source)} images can be read")
    return columns


def _chunks(
    packer: Packer, numbers: range, workers: Workers | None
) -> Generator[Packed, None, None]:
    if workers is None:
        yield from map(packer, numbers)
    else:
        yield from workers.map(packer, numbers, _PREFETCH)


def _write_block(file: BinaryIO, values: np.ndarray) -> Block:
    file.write(bytes(-file.tell() % _ALIGNMENT))
    content = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    offset = file.tell()
    file.write(content.data)
    return Block(
        offset=offset,
        shape=tuple(values.shape),
        dtype=values.dtype.str,
        checksum=zlib.crc32(content.data),
    )
