"""Mean and standard deviation of a source, for data whose statistics differ from ImageNet's."""

from __future__ import annotations

import math

import numpy as np

from normfree.data.sources.source import ArraySource

_CHUNK = 1024  # images at a time; bounds the memory


def dataset_statistics(source: ArraySource) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels of all images.

    The sums are integers, so the result is exact and the same on every machine.

    Args:
        source: images in memory.

    Returns:
        ``(mean, std)`` on the scale 0 to 255, one value per channel. A constant channel gets
        standard deviation 1, so that dividing by it has no effect.

    >>> pixels = np.array([0, 100], dtype=np.uint8).reshape(2, 1, 1, 1)
    >>> dataset_statistics(ArraySource("two", pixels, np.array([0, 1]), ("dark", "light")))
    ((50.0,), (50.0,))
    """
    total, squares = np.zeros((2, source.channels), dtype=np.int64)
    for start in range(0, len(source), _CHUNK):
        chunk = source.pixels[start : start + _CHUNK].reshape(-1, source.channels)
        total += chunk.sum(axis=0, dtype=np.int64)
        squares += np.square(chunk, dtype=np.uint16).sum(axis=0, dtype=np.int64)
    count = source.pixels.size // source.channels
    sums = list(
        zip(total.tolist(), squares.tolist(), strict=True)
    )  # Python's integers: no overflow
    mean = tuple(s / count for s, _ in sums)
    std = tuple(math.sqrt(count * q - s * s) / count or 1.0 for s, q in sums)
    return mean, std
