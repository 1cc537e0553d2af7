"""Decoded images, kept for the next epochs: in memory or in a file, shared by all processes.

What is kept are pixels, not files. For a photograph of 500 × 375 pixels decoding is more than nine
tenths of reading it, and the system keeps files in memory anyway. The price is eight times the
memory. Images that do not fit are read from the source each time; none is thrown out for another,
because every epoch visits all of them in a new order, so that any part is as good as any other.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from normfree.data.shared_files import SharedFile, map_file, new_file
from normfree.data.sources.source import EncodedSource, Source
from normfree.data.view import Pixels, Regions

_MAGIC = b"normfree cache 1"
_HEAD = struct.Struct("<16s16sqq")  # magic, key, examples, bytes in use
_ENTRY = struct.Struct("<q")
_SIDES = struct.Struct("<IIII")  # height, width, channels, checksum: before the pixels
_TABLE = 4096  # where the positions of the images begin
_PAGE = 4096


class PixelCache:
    """Decoded images in a shared file, as many as fit.

    The file holds a table with the position of each image, then the images in the order in which
    they were read. An entry of the table is written after its image, so whatever moment a process
    is killed at, an entry is right or absent. After a power failure, parts of a file on disk may be
    missing: there, each process compares an image with its checksum once.

    Args:
        file: of at least ``table + capacity`` bytes, sparse.
        examples: number of images of the source.
        capacity: bytes for images.
        checked: whether images have checksums.

    >>> cache = PixelCache.in_memory(examples=2, capacity=1000)
    >>> cache.put(1, np.full((10, 12, 3), 7, dtype=np.uint8))
    >>> cache.put(0, np.zeros((20, 20, 3), dtype=np.uint8))  # has no room
    >>> cache.get(1).shape, cache.get(0)
    ((10, 12, 3), None)
    """

    def __init__(
        self, file: SharedFile, examples: int, capacity: int, *, checked: bool = False
    ) -> None:
        self.file, self.examples, self.capacity = file, examples, capacity
        self._unchecked = np.full(examples, checked)
        self._checked = checked
        #: Whether an image did not fit: most will not.
        self.full = False

    @classmethod
    def in_memory(cls, examples: int, capacity: int) -> PixelCache:
        """A cache that vanishes with the processes that use it."""
        file = SharedFile(new_file(_begin(examples) + capacity))
        os.pwrite(file.number, _HEAD.pack(_MAGIC, bytes(16), examples, 0), 0)
        return cls(file, examples, capacity)

    @classmethod
    def on_disk(cls, directory: Path, key: bytes, examples: int, capacity: int) -> PixelCache:
        """A cache that later runs find again; a damaged file is replaced.

        Args:
            directory: of the file, which is named by the key.
            key: 16 bytes that identify the source, see :func:`source_key`.
            examples: number of images.
            capacity: bytes for images.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{key.hex()}.pixels"
        file = _opened(path)
        with _locked(file.number):
            size = os.fstat(file.number).st_size
            found = _HEAD.unpack(os.pread(file.number, _HEAD.size, 0).ljust(_HEAD.size, b"\0"))
            if size and (found[:3] != (_MAGIC, key, examples) or not 0 <= found[3] <= size):
                path.unlink()  # another run may have mapped it
                return cls.on_disk(directory, key, examples, capacity)
            if not size:
                os.pwrite(file.number, _HEAD.pack(_MAGIC, key, examples, 0), 0)
            os.ftruncate(file.number, max(size, _begin(examples) + capacity))
        return cls(file, examples, capacity, checked=True)

    def __reduce__(self) -> tuple[object, ...]:
        return _cache, (self.file, self.examples, self.capacity, self._checked)

    @cached_property
    def memory(self) -> mmap.mmap:
        """The file as memory, to read from."""
        return map_file(self.file.number, writable=False)

    @cached_property
    def places(self) -> Int[np.ndarray, " examples"]:
        """Position of each image in the file; 0 for those that are not there."""
        return np.ndarray((self.examples,), "<i8", self.memory, _TABLE)

    def get(self, index: int) -> UInt8[np.ndarray, "h w c"] | None:
        """An image, as a read-only view of the shared memory; None if it is not there."""
        place = int(self.places[index])
        if not _begin(self.examples) <= place <= len(self.memory) - _SIDES.size:
            return None
        *shape, checksum = _SIDES.unpack_from(self.memory, place)
        if not 0 < math.prod(shape) <= len(self.memory) - place - _SIDES.size:
            return None
        image = np.ndarray(shape, np.uint8, self.memory, place + _SIDES.size)
        if self._unchecked[index]:
            if zlib.crc32(image.reshape(-1).data) != checksum:
                return None
            self._unchecked[index] = False
        return image

    def put(self, index: int, image: UInt8[np.ndarray, "h w c"]) -> None:
        """Keep an image if there is room; not if the disk is full."""
        pixels = np.ascontiguousarray(image).reshape(-1)
        place = self._reserved(_SIDES.size + len(pixels))
        if place is None:
            self.full = True
            return
        head = _SIDES.pack(*image.shape, zlib.crc32(pixels.data) if self._checked else 0)
        with suppress(OSError):  # written through the map, a full disk would be a SIGBUS
            self._write(head, place)
            self._write(pixels.data, place + _SIDES.size)
            self._write(_ENTRY.pack(place), _TABLE + index * _ENTRY.size)

    def _write(self, content: bytes | memoryview, place: int) -> None:
        if os.pwrite(self.file.number, content, place) != len(content):
            raise OSError

    @property
    def used(self) -> int:
        """Bytes in use."""
        used: int = _HEAD.unpack(os.pread(self.file.number, _HEAD.size, 0))[3]
        return used

    def _reserved(self, nbytes: int) -> int | None:
        """The position of free space, or None."""
        with _locked(self.file.number):
            magic, key, examples, used = _HEAD.unpack(os.pread(self.file.number, _HEAD.size, 0))
            if used + nbytes > self.capacity:
                return None
            head = _HEAD.pack(magic, key, examples, used + nbytes)
            os.pwrite(self.file.number, head, 0)
        return _begin(self.examples) + int(used)


def _cache(file: SharedFile, examples: int, capacity: int, checked: bool) -> PixelCache:
    return PixelCache(file, examples, capacity, checked=checked)


def _opened(path: Path) -> SharedFile:
    return SharedFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _begin(examples: int) -> int:
    """Where the images begin."""
    return _TABLE + -(-examples * _ENTRY.size // _PAGE) * _PAGE


@contextmanager
def _locked(file: int) -> Iterator[None]:
    """Only one process at a time; the system releases the lock of one that is killed."""
    import fcntl  # POSIX only

    fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)


@dataclass(frozen=True, eq=False)
class CachedSource:
    """A source whose images are decoded once.

    Args:
        source: the images.
        cache: where they are kept.
    """

    source: Source
    cache: PixelCache = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.source.classes

    @property
    def labels(self) -> Shaped[np.ndarray, " n *k"]:
        """Labels of the images."""
        return self.source.labels

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for RGB."""
        return self.source.channels

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Image ``index``, read from the source the first time."""
        image = self.cache.get(index)
        if image is None:
            image = self.source.image(index)
            self.cache.put(index, image)
        return image

    def encoded(self, index: int) -> Regions:
        """Image ``index``, of which a view is needed: decoded in parts where there is no room."""
        image = self.cache.get(index)
        if image is None:
            if isinstance(self.source, EncodedSource) and self.cache.full:
                return self.source.encoded(index)
            image = self.source.image(index)
            self.cache.put(index, image)
        return Pixels(image)

    def name(self, index: int) -> str:
        """The name in the source."""
        return self.source.name(index)


def source_key(source: Source) -> bytes:
    """16 bytes that change with the names of a source, and with the size and time of its files.

    >>> from normfree.data.sources import open_source
    >>> source_key(open_source("digits", "train")) == source_key(open_source("digits", "val"))
    False
    """
    key = hashlib.blake2b(digest_size=16)
    files = getattr(source, "files", None)
    for index in range(len(source)):
        key.update(source.name(index).encode("utf-8", "surrogatepass") + b"\n")
        if files is not None:
            try:
                found = Path(files[index]).stat()
            except OSError:
                continue
            key.update(struct.pack("<qq", found.st_size, found.st_mtime_ns))
    return key.digest()
