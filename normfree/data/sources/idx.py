"""``idx:DIR``: the IDX files of MNIST and Fashion-MNIST, compressed or not."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from normfree.data.files import open_regular
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import ArraySource, Split
from normfree.errors import UserError

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_PREFIX: dict[Split, str] = {"train": "train", "val": "t10k"}
_UNSIGNED_BYTE = 0x08
_MAX_VALUES = 2**30  # per file: twice as many as the largest in use (EMNIST by class)
_MOST_PER_BYTE = 1032  # the largest expansion of deflate
_CHUNK = 2**24


@register_source("idx", "DIR")
def open_idx(argument: str, split: Split, opening: Opening) -> ArraySource:
    """Read the images and labels of a directory of IDX files into memory.

    Args:
        argument: a directory with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the
            same for ``t10k``, each with or without ``.gz``. If the directory's name contains
            ``fashion``, the classes are named as in Fashion-MNIST; otherwise by their numbers.
        split: ``train``, or ``val`` for the ``t10k`` files.
        opening: provides the classes of ``val`` if there are no training labels.

    Raises:
        UserError: a file is missing, has the wrong type, is truncated, is too large, or does not
            match its counterpart.
    """
    directory = Path(argument).expanduser()
    images_file = _find(directory, f"{_PREFIX[split]}-images", 3)
    labels_file = _find(directory, f"{_PREFIX[split]}-labels", 1)
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise UserError(
            f"{images_file} has {len(images)} images but {labels_file} has {len(labels)} labels: "
            "the two files do not belong together"
        )
    if not images.size:
        raise UserError(f"{images_file} has no images")
    known = opening.classes
    if split == "train" or not known or any(directory.glob("train-labels*")):
        training = labels if split == "train" else read_idx(_find(directory, "train-labels", 1), 1)
        known = _class_names(directory, int(training.max(initial=0)) + 1)
    if labels.max() >= len(known):
        raise UserError(
            f"{labels_file} has label {labels.max()}, but the training labels end at "
            f"{len(known) - 1}: the files do not belong together"
        )
    return ArraySource(directory.name, images[..., None], labels.astype(np.int64), known)


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of unsigned bytes.

    The format is two zero bytes, the type (8: unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values. The header is read first, and no
    more than it declares is decompressed.

    Args:
        path: the file; decompressed if its name ends in ``.gz``.
        dimensions: expected number of dimensions.

    Raises:
        UserError: the file is of another type, is incomplete, or has more than 2³⁰ values.
    """
    try:
        with open_regular(path) as file:
            packed = os.fstat(file.fileno()).st_size
            if path.suffix != ".gz":
                return _read(file, path, dimensions, packed)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(unpacked, path, dimensions, _MOST_PER_BYTE * packed)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"cannot decompress {path}: {error}; download it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _read(
    file: BufferedReader | gzip.GzipFile, path: Path, dimensions: int, most: int
) -> UInt8[np.ndarray, "..."]:
    """Read the array of an open file of at most ``most`` bytes."""
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    begin = file.read(4)
    if begin != expected:
        raise UserError(
            f"{path} is not an IDX file of bytes with {dimensions} dimensions: it begins with "
            f"{begin.hex() or 'nothing'}, not {expected.hex()}"
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise UserError(f"{path} ends inside its header: download it again")
    shape = tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
    count = math.prod(shape)
    declared = f"{path} should hold {' × '.join(map(str, shape))} = {count} values"
    if count > _MAX_VALUES:
        raise UserError(f"{declared}, more than the limit of {_MAX_VALUES}")
    if count > most:
        raise UserError(f"{declared} but is too small for that: download it again")
    values = np.empty(count, dtype=np.uint8)
    found = _fill(values, file)
    found += len(file.read(1))  # also verifies gzip's checksum
    if found != count:
        has = f"has {found}" if found < count else f"has {found} or more"
        raise UserError(f"{declared} but {has}: download it again")
    return values.reshape(shape)


def _fill(values: UInt8[np.ndarray, " n"], file: BufferedReader | gzip.GzipFile) -> int:
    """Read until the array is full or the file ends; returns the number of bytes read."""
    view, found = memoryview(values.data), 0
    while found < len(view) and (read := file.readinto(view[found : found + _CHUNK])):
        found += read
    return found


def _find(directory: Path, stem: str, dimensions: int) -> Path:
    """The file, under either common spelling (``-idx3`` or ``.idx3``)."""
    names = [f"{stem}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (directory / name).exists():
            return directory / name
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}; name yours as idx:DIR")
    raise UserError(f"{directory} has neither {names[0]} nor {names[1]}")


def _class_names(directory: Path, count: int) -> tuple[str, ...]:
    if "fashion" in directory.resolve().name.lower() and count <= len(FASHION_CLASSES):
        return FASHION_CLASSES
    return tuple(map(str, range(max(10, count))))
