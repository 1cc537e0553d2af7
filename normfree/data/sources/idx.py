"""``idx:DIR``: the IDX files in which MNIST and Fashion-MNIST are shipped, packed or not."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

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


def open_idx(
    directory: str | Path, split: Split, classes: Sequence[str] | None = None
) -> ArraySource:
    """The images and labels of a directory of IDX files, in memory.

    Args:
        directory: holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same for
            ``t10k``, each with or without ``.gz``. If its name contains ``fashion``, the classes
            get Fashion-MNIST's names; otherwise their numbers.
        split: ``train``, or ``val`` for the ``t10k`` files.
        classes: what to take for ``val`` where there are no training labels.

    Raises:
        UserError: if a file is missing, is not what its name says, ends early or does not match
            the other one.
    """
    directory = Path(directory).expanduser()
    images_file = _find(directory, f"{_PREFIX[split]}-images", 3)
    labels_file = _find(directory, f"{_PREFIX[split]}-labels", 1)
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise UserError(
            f"{images_file} holds {len(images)} images but {labels_file} {len(labels)} labels: "
            "the two files do not belong together"
        )
    if not images.size:
        raise UserError(f"{images_file} holds no images")
    known = tuple(classes or ())
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

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values.

    Args:
        path: the file; unpacked if its name ends in ``.gz``.
        dimensions: how many dimensions it must have.

    Raises:
        UserError: if it is not such a file, or is not complete.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"cannot unpack {path}: {error}; fetch it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != expected:
        raise UserError(
            f"{path} is not an IDX file of bytes with {dimensions} dimensions: it begins with "
            f"{content[:4].hex() or 'nothing'}, not {expected.hex()}"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise UserError(f"{path} ends within its header: fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path} should hold {' × '.join(map(str, shape))} = {math.prod(shape)} values but "
            f"has {len(content) - start}: fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _find(directory: Path, stem: str, dimensions: int) -> Path:
    """The file, under either of the spellings in use (``-idx3`` and ``.idx3``)."""
    names = [f"{stem}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}; name yours as idx:DIR")
    raise UserError(f"{directory} has neither {names[0]} nor {names[1]}")


def _class_names(directory: Path, count: int) -> tuple[str, ...]:
    if "fashion" in directory.resolve().name.lower() and count <= len(FASHION_CLASSES):
        return FASHION_CLASSES
    return tuple(map(str, range(max(10, count))))
