"""What is in a data source: sizes, balance of the classes, duplicates, unreadable images."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from normfree.augment import RandAugment
from normfree.data import EvalTransform, Source, Split, TrainTransform
from normfree.data.sources.source import class_counts
from normfree.errors import BadImageError
from normfree.random import example_keys, numpy_generator

_STREAM = 6  # numpy_generator stream for the crops of a contact sheet
_AHEAD = 64  # images read at a time


class Seen(NamedTuple):
    """An image that was read.

    Attributes:
        digest: hash of the file, or of the pixels where there is no file.
        shape: height and width; (0, 0) if it cannot be read.
        size: bytes of the file, or of the pixels.
        reason: why it cannot be read; "" if it can.
    """

    digest: bytes
    shape: tuple[int, int]
    size: int
    reason: str


@dataclass(frozen=True)
class Contents:
    """What is in a source.

    Attributes:
        classes: class names.
        splits: split → its counts, sizes, unreadable images and notes.
        duplicates: images with equal content: their number, how many are in several splits or have
            different labels, and their names.
    """

    classes: tuple[str, ...]
    splits: Mapping[Split, Mapping[str, Any]] = field(default_factory=dict)
    duplicates: Mapping[str, Any] = field(default_factory=dict)


def inspect(sources: Mapping[Split, Source], limit: int | None = None) -> Contents:
    """Read every image of some splits.

    Args:
        sources: the splits.
        limit: read no more than this many images of each, evenly spaced; None reads all.

    >>> from normfree.data import open_source
    >>> found = inspect({"val": open_source("synthetic:64x8", "val")})
    >>> found.splits["val"]["images"], found.splits["val"]["width"], found.duplicates["images"]
    (16, {'least': 8, 'median': 8, 'most': 8}, 0)
    """
    splits: dict[Split, Mapping[str, Any]] = {}
    places: dict[bytes, list[tuple[Split, int]]] = defaultdict(list)
    for split, source in sources.items():
        indices = _spaced(len(source), limit)
        seen = list(_see(source, indices))
        for index, image in zip(indices, seen, strict=True):
            if image.digest:
                places[image.digest].append((split, index))
        splits[split] = _described(source, indices, seen)
    some = next(iter(sources.values()))
    return Contents(tuple(some.classes), splits, _duplicates(sources, places))


def _spaced(count: int, limit: int | None) -> list[int]:
    most = count if limit is None else min(limit, count)
    return [place * count // most for place in range(most)]


def _see(source: Source, indices: Sequence[int]) -> Iterator[Seen]:
    """Read images, several at a time: decoders release the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for first in range(0, len(indices), _AHEAD):
            some = indices[first : first + _AHEAD]
            yield from threads.map(lambda index: see(source, index), some)


def see(source: Source, index: int) -> Seen:
    """Read one image."""
    content, shape, reason = b"", (0, 0), ""
    try:
        if hasattr(source, "content"):
            content = source.content(index)
        pixels = source.image(index)
        shape = pixels.shape[0], pixels.shape[1]
        content = content or pixels.tobytes()
    except BadImageError as error:
        reason = error.reason
    digest = blake2b(content, digest_size=16).digest() if content else b""
    return Seen(digest, shape, len(content), reason)


def _described(source: Source, indices: Sequence[int], seen: Sequence[Seen]) -> dict[str, Any]:
    counts = class_counts(source.labels, len(source.classes))
    sizes = np.array([image.shape for image in seen if not image.reason]).reshape(-1, 2)
    return {
        "images": len(source),
        "read": len(seen),
        "per_class": dict(zip(source.classes, counts.tolist(), strict=True)),
        "height": _spread(sizes[:, 0]),
        "width": _spread(sizes[:, 1]),
        "bytes": _spread(np.array([image.size for image in seen if not image.reason])),
        "unreadable": {
            source.name(index): image.reason
            for index, image in zip(indices, seen, strict=True)
            if image.reason
        },
        "notes": list(getattr(source, "notes", ())),
    }


def _spread(values: np.ndarray) -> dict[str, int] | None:
    if not len(values):
        return None
    least, median, most = np.quantile(values, [0, 0.5, 1], method="lower").tolist()
    return {"least": least, "median": median, "most": most}


def _duplicates(
    sources: Mapping[Split, Source], places: Mapping[bytes, Sequence[tuple[Split, int]]]
) -> dict[str, Any]:
    """Images whose content occurs more than once."""
    sets = [found for found in places.values() if len(found) > 1]
    across = [found for found in sets if len({split for split, _ in found}) > 1]
    labels = [{sources[split].labels[index].tobytes() for split, index in found} for found in sets]
    conflicts = [found for found, some in zip(sets, labels, strict=True) if len(some) > 1]

    def named(found: Sequence[tuple[Split, int]]) -> list[str]:
        return [f"{split}: {sources[split].name(index)}" for split, index in found]

    return {
        "sets": len(sets),
        "images": sum(map(len, sets)),
        "sets_across_splits": len(across),
        "sets_with_different_labels": len(conflicts),
        "across_splits": list(map(named, across)),
        "different_labels": list(map(named, conflicts)),
        "names": list(map(named, sets)),
    }


def contact_sheet(
    source: Source,
    *,
    size: int = 128,
    rows: int = 8,
    columns: int = 6,
    magnitude: float = 0.0,
    seed: int = 0,
) -> UInt8[np.ndarray, "height width c"]:
    """Images as training sees them: in each row an image whole, then its first random crops.

    Args:
        source: the training images.
        size: side of each, pixels.
        rows: number of images, as many of each class as possible.
        columns: number of images of each.
        magnitude: strength of RandAugment's four operations; 0 leaves them out.
        seed: of the crops.

    Returns:
        One image, with a white line of two pixels between images.
    """
    sheet = np.full((rows * (size + 2), columns * (size + 2), source.channels), 255, np.uint8)
    row = 0
    for index in _in_turn(source):
        if row == rows:
            break
        try:
            image = source.image(index)
        except BadImageError:
            continue
        for column, crop in enumerate(_crops(image, index, size, columns, magnitude, seed)):
            top, left = row * (size + 2), column * (size + 2)
            sheet[top : top + size, left : left + size] = crop
        row += 1
    return sheet[: max(1, row * (size + 2) - 2), : columns * (size + 2) - 2]


def _in_turn(source: Source) -> list[int]:
    """The first images of each class, in turn; with several labels an image, all in their order."""
    labels = source.labels
    if labels.ndim == 2:
        return list(range(len(source)))
    by_class = np.argsort(labels, kind="stable")
    classes = np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1)
    turns = ((place, label, int(i)) for label, c in enumerate(classes) for place, i in enumerate(c))
    return [index for _, _, index in sorted(turns)]


def _crops(
    image: UInt8[np.ndarray, "h w c"],
    index: int,
    size: int,
    columns: int,
    magnitude: float,
    seed: int,
) -> Iterator[UInt8[np.ndarray, "size size c"]]:
    yield _bytes(EvalTransform(size, margin=0)(image, None))
    for epoch in range(columns - 1):
        crop = _bytes(TrainTransform(size)(image, numpy_generator(seed, _STREAM, epoch, index)))
        if magnitude > 0:
            augment = RandAugment(4, magnitude)
            keys = torch.from_numpy(example_keys(seed, epoch, np.array([index])))
            batch = torch.from_numpy(crop.transpose(2, 0, 1).copy())[None]
            crop = augment(batch, augment.draw(keys, size, size))[0].numpy().transpose(1, 2, 0)
        yield crop


def _bytes(image: np.ndarray) -> UInt8[np.ndarray, "h w c"]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
