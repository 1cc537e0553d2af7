"""Random crops for training, with the distribution of TensorFlow or torchvision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from normfree.data.preprocess import center_crop_view
from normfree.data.resize import Resize
from normfree.data.view import Box, Pixels, View, render

Crop: TypeAlias = Literal["tensorflow", "torchvision"]
"""The library whose crop distribution is used."""


def distorted_bounding_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    min_covered: float = 0.1,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    area: tuple[float, float] = (0.08, 1.0),
    attempts: int = 10,
) -> Box:
    """Draw a crop box: aspect ratio first, then height, then position.

    ``r ~ U(aspect)``; ``h`` is uniform over the integers from ``√(area₀·H·W / r)`` to
    ``min(H, W/r, √(area₁·H·W / r))``; ``w = round(r·h)``; the position is uniform. A box that
    covers less than ``min_covered`` of the image is redrawn.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        rng: random number generator.
        min_covered: smallest fraction of the image a box may cover; it takes precedence over a
            smaller ``area[0]``.
        aspect: range of width / height.
        area: range of the fraction of the image area; it bounds the height.
        attempts: number of draws before giving up.

    Returns:
        The box, or the whole image if every attempt failed.

    >>> distorted_bounding_box(375, 500, np.random.default_rng(0))
    Box(top=34, left=68, height=248, width=278)

    Source: ``tf.image.sample_distorted_bounding_box`` with the whole image as the object.
    Differs from: :func:`random_resized_crop_box`, which draws the area and the logarithm of the
        aspect ratio uniformly. Large areas are rarer here.
    """
    for _ in range(attempts):
        ratio = aspect[0] + rng.random() * (aspect[1] - aspect[0])
        size = _draw_size(height, width, ratio, area, rng)
        if size is None or size[0] * size[1] < min_covered * height * width:
            continue
        # TensorFlow draws from [0, free), not [0, free], so a box never touches the far edge.
        top = int(rng.integers(max(1, height - size[0])))
        left = int(rng.integers(max(1, width - size[1])))
        return Box(top, left, *size)
    return Box(0, 0, height, width)


def _draw_size(
    height: int, width: int, ratio: float, area: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Draw the height and width of a crop with this aspect ratio; None if none fits."""
    least, most = area[0] * height * width, area[1] * height * width
    lowest = round(math.sqrt(least / ratio))
    highest = min(height, round(math.sqrt(most / ratio)))
    if round(highest * ratio) > width:
        highest = int((width + 0.5 - 1e-7) / ratio)
    rows = min(lowest, highest)
    rows += int(rng.integers(highest - rows + 1))
    # Rounding may push the area just out of bounds: correct by one row.
    if rows * round(rows * ratio) < least:
        rows += 1
    if rows * round(rows * ratio) > most:
        rows -= 1
    columns = round(rows * ratio)
    fits = 0 < rows <= height and 0 < columns <= width and least <= rows * columns <= most
    return (rows, columns) if fits else None


def random_resized_crop_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    area: tuple[float, float] = (0.08, 1.0),
    attempts: int = 10,
) -> Box:
    """Draw a crop box: area and aspect ratio first, then position.

    ``a ~ U(area)·H·W`` and ``ln r ~ U(ln aspect)``; ``h = round(√(a / r))``, ``w = round(√(a·r))``;
    the position is uniform. A box that exceeds the image is redrawn.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        rng: random number generator.
        aspect: range of width / height.
        area: range of the fraction of the image area.
        attempts: number of draws before giving up.

    Returns:
        The box. If every attempt failed, the largest centered box whose aspect ratio is in range.

    >>> random_resized_crop_box(375, 500, np.random.default_rng(0))
    Box(top=35, left=302, height=171, width=129)

    Source: torchvision's ``RandomResizedCrop``, also used by timm and most other libraries.
    """
    for _ in range(attempts):
        pixels = rng.uniform(*area) * height * width
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        rows, columns = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            top = int(rng.integers(height - rows + 1))
            left = int(rng.integers(width - columns + 1))
            return Box(top, left, rows, columns)
    rows = min(height, round(width / aspect[0]))
    columns = min(width, round(height * aspect[1]))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)


_DRAW: Mapping[Crop, Callable[[int, int, np.random.Generator], Box]] = {
    "tensorflow": distorted_bounding_box,
    "torchvision": random_resized_crop_box,
}


def random_crop_view(
    height: int,
    width: int,
    size: int,
    rng: np.random.Generator,
    *,
    flip: bool = True,
    crop: Crop = "tensorflow",
    resize: Resize = "tensorflow",
) -> View:
    """Draw a crop, flipped with probability ½ and resized to a square.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        size: side of the result, pixels.
        rng: random number generator.
        flip: whether to flip horizontally with probability ½.
        crop: distribution of the crops.
        resize: the filter.

    >>> view = random_crop_view(375, 500, 192, np.random.default_rng(0))
    >>> view.box, view.mirror
    (Box(top=34, left=68, height=248, width=278), True)

    Source: ``_decode_and_random_crop`` and the flip and resize after it in the authors'
    ``dataset.py``. A box that covers the whole image counts as a failed draw there and is replaced
    by the padded center crop.
    """
    box = _DRAW[crop](height, width, rng)
    mirror = flip and bool(rng.random() < 0.5)
    if crop == "tensorflow" and (box.height, box.width) == (height, width):
        return center_crop_view(height, width, size, mirror=mirror, resize=resize)
    return View(box, size, size, mirror=mirror, resize=resize)


def random_crop_resize(
    image: UInt8[np.ndarray, "h w c"],
    size: int,
    rng: np.random.Generator,
    *,
    flip: bool = True,
    crop: Crop = "tensorflow",
) -> Float32[np.ndarray, "size size c"]:
    """Crop at random, flip with probability ½, and resize to a square.

    Args:
        image: input image.
        size: side of the result, pixels.
        rng: random number generator.
        flip: whether to flip horizontally with probability ½.
        crop: distribution of the crops.

    Returns:
        The image, with values from 0 to 255 except where the bicubic kernel overshoots.

    >>> image = np.zeros((375, 500, 3), dtype=np.uint8)
    >>> random_crop_resize(image, 192, np.random.default_rng(0)).shape
    (192, 192, 3)

    Source: as :func:`random_crop_view`.

    Differs from: torchvision's ``RandomResizedCrop``, for either value of ``crop``, which resizes
    with antialiased bilinear interpolation; here it is bicubic without antialiasing.
    """
    height, width, _ = image.shape
    view = random_crop_view(height, width, size, rng, flip=flip, crop=crop)
    return render(Pixels(image), view).transpose(1, 2, 0)
