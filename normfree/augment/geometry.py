"""RandAugment operations that move pixels, for whole batches of bytes, with nearest neighbor.

All images in a batch share one map of pixels. The maps equal the authors' bit for bit:
``tfa.image.transform`` computes the input position of each output pixel in float32, rounding after
each product and sum, and takes the nearest pixel, with halves rounded away from zero.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64, UInt8
from torch import Tensor

from normfree.augment.levels import FILL
from normfree.augment.registry import Level, operation

_Map = tuple[float, float, float, float, float, float]


def _shear(level: Level) -> float:
    return level.sign * (level.share * 0.3)


def _pixels_of_authors(level: Level) -> float:
    """The authors' shift in pixels, which does not depend on the image size."""
    return level.sign * (level.share * 100)


@operation(
    "Rotate",
    authors=lambda level: level.sign * (level.share * 30),
    neutral=0,
    kernel="move",
    places=lambda degrees, height, width: source_pixels(
        _rotation(degrees, height, width), height, width
    ),
)
def rotate(images: UInt8[Tensor, "n c h w"], degrees: float) -> UInt8[Tensor, "n c h w"]:
    """Rotate about the center, counterclockwise for positive degrees.

    Pixels from outside the image are gray, 128.

    >>> image = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    >>> rotate(image, 90)
    tensor([[[[2, 4],
              [1, 3]]]], dtype=torch.uint8)
    """
    height, width = images.shape[2:]
    return _resample(images, _rotation(degrees, height, width))


@operation(
    "ShearX",
    authors=_shear,
    neutral=0,
    kernel="move",
    places=lambda shear, height, width: source_pixels(
        (1.0, shear, 0.0, 0.0, 1.0, 0.0), height, width
    ),
)
def shear_x(images: UInt8[Tensor, "n c h w"], shear: float) -> UInt8[Tensor, "n c h w"]:
    """Move each row to the left by ``shear·row`` pixels; the top row does not move.

    >>> shear_x(torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3), 1.0)
    tensor([[[[  0,   1,   2],
              [  4,   5, 128]]]], dtype=torch.uint8)

    Differs from: Pillow and timm, which measure from the image edge, half a pixel earlier.
    """
    n, c, height, width = images.shape
    rows = _shear_rows(shear, height, width, images.device)
    framed = images.new_full((n * c, height, rows.left + width + rows.right), FILL)
    framed[:, :, rows.left : rows.left + width] = images.reshape(n * c, height, width)
    # Each row of the result is `width` consecutive bytes of the framed image.
    line = framed.view(-1)
    windows = line.as_strided((max(0, len(line) - width + 1), width), (1, 1))
    planes = torch.arange(0, len(line), height * framed.shape[2], device=images.device)
    starts = (planes[:, None] + rows.starts).view(-1)
    result = windows.index_select(0, starts).view(n * c, height * width)
    result.index_copy_(1, rows.odd, framed.flatten(1).index_select(1, rows.sources))
    return result.view(n, c, height, width)


@operation(
    "ShearY",
    authors=_shear,
    neutral=0,
    kernel="move",
    places=lambda shear, height, width: source_pixels(
        (1.0, 0.0, 0.0, shear, 1.0, 0.0), height, width
    ),
)
def shear_y(images: UInt8[Tensor, "n c h w"], shear: float) -> UInt8[Tensor, "n c h w"]:
    """Move each column up by ``shear·column`` pixels; the left column does not move.

    >>> shear_y(torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3), 1.0)
    tensor([[[[  0,   4, 128],
              [  3, 128, 128]]]], dtype=torch.uint8)

    Differs from: Pillow and timm, which measure from the image edge, half a pixel earlier.
    """
    return _resample(images, (1.0, 0.0, 0.0, shear, 1.0, 0.0))


@operation(
    "TranslateX",
    authors=_pixels_of_authors,
    clean=lambda level: level.sign * (level.share * 0.45 * level.width),
    neutral=0,
    kernel="move",
    places=lambda pixels, height, width: source_pixels(
        (1.0, 0.0, pixels, 0.0, 1.0, 0.0), height, width
    ),
)
def translate_x(images: UInt8[Tensor, "n c h w"], pixels: float) -> UInt8[Tensor, "n c h w"]:
    """Move to the left by ``pixels``; pixels from outside the image are gray, 128.

    >>> translate_x(torch.arange(3, dtype=torch.uint8).view(1, 1, 1, 3), 1)
    tensor([[[[  1,   2, 128]]]], dtype=torch.uint8)
    """
    return _slide(images, 3, pixels)


@operation(
    "TranslateY",
    authors=_pixels_of_authors,
    clean=lambda level: level.sign * (level.share * 0.45 * level.height),
    neutral=0,
    kernel="move",
    places=lambda pixels, height, width: source_pixels(
        (1.0, 0.0, 0.0, 0.0, 1.0, pixels), height, width
    ),
)
def translate_y(images: UInt8[Tensor, "n c h w"], pixels: float) -> UInt8[Tensor, "n c h w"]:
    """Move up by ``pixels``; pixels from outside the image are gray, 128.

    >>> translate_y(torch.arange(3, dtype=torch.uint8).view(1, 1, 3, 1), -1).flatten()
    tensor([128,   0,   1], dtype=torch.uint8)
    """
    return _slide(images, 2, pixels)


def source_pixels(matrix: _Map, height: int, width: int) -> Int64[Tensor, " pixels"]:
    """The input pixel of each output pixel; ``height·width`` means outside the image.

    >>> source_pixels((1.0, 0.0, 1.0, 0.0, 1.0, 0.0), height=2, width=3).view(2, 3)
    tensor([[1, 2, 6],
            [4, 5, 6]])

    Args:
        matrix: a 2×3 matrix, row by row; its product with the output (column, row, 1) is the input
            (column, row).
        height: height of the images, pixels.
        width: width of the images, pixels.
    """
    return _pixels(matrix, height, width, torch.device("cpu"))


def _rotation(degrees: float, height: int, width: int) -> _Map:
    """The matrix of a rotation about the center, from output to input positions."""
    radians = np.float32(degrees) * np.float32(math.pi / 180)
    cos, sin = np.cos(radians), np.sin(radians)
    right, bottom, half = np.float32(width - 1), np.float32(height - 1), np.float32(2)
    column = (right - (cos * right - sin * bottom)) / half
    row = (bottom - (sin * right + cos * bottom)) / half
    return (float(cos), float(-sin), float(column), float(sin), float(cos), float(row))


def _resample(images: UInt8[Tensor, "n c h w"], matrix: _Map) -> UInt8[Tensor, "n c h w"]:
    """``y(row, column) = x(M · (column, row, 1))``."""
    n, c, height, width = images.shape
    pixels = _pixels(matrix, height, width, images.device)
    framed = images.new_full((n * c, height * width + 1), FILL)
    framed[:, :-1] = images.reshape(n * c, height * width)
    return framed.gather(1, pixels.expand(n * c, -1)).view(n, c, height, width)


class _Rows(NamedTuple):
    """How to shear rows framed with gray at both ends and stored as one line per channel.

    Attributes:
        left: gray pixels before a row, at least 1.
        right: gray pixels after a row.
        starts: position in the line where each row of the result starts.
        odd: result pixels that move differently from their row because of float32 rounding.
        sources: positions in the line of the sources of the odd pixels.
    """

    left: int
    right: int
    starts: Int64[Tensor, " h"]
    odd: Int64[Tensor, " pixels"]
    sources: Int64[Tensor, " pixels"]


@lru_cache(maxsize=16)
def _shear_rows(shear: float, height: int, width: int, device: torch.device) -> _Rows:
    columns, _ = _places((1.0, shear, 0.0, 0.0, 1.0, 0.0), height, width)
    shifts = columns - np.arange(width)
    shift = np.median(shifts, axis=1).astype(np.int64).clip(-width, width)
    left, right = max(1, -shift.min()), max(0, shift.max())
    lines = np.arange(height) * (left + width + right)
    inside = (columns >= 0) & (columns < width)
    odd = np.flatnonzero(shifts != shift[:, None])
    sources = lines[:, None] + np.where(inside, left + columns, 0)  # 0: the gray before the row
    tensors = (lines + left + shift, odd, sources.reshape(-1)[odd])
    return _Rows(left, right, *(torch.from_numpy(part).to(device) for part in tensors))


@lru_cache(maxsize=16)
def _pixels(
    matrix: _Map, height: int, width: int, device: torch.device
) -> Int64[Tensor, " pixels"]:
    """The input pixel of each output pixel; ``height·width`` means outside the image."""
    columns, rows = _places(matrix, height, width)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    pixels = np.where(inside, rows * width + columns, height * width)
    return torch.from_numpy(pixels.reshape(-1)).to(device)


def _places(
    matrix: _Map, height: int, width: int
) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "h w"]]:
    """The input column and row of each output pixel, possibly outside the image."""
    a, b, c, d, e, f = (np.float32(value) for value in matrix)
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    return _nearest((a * x + b * y) + c), _nearest((d * x + e * y) + f)


def _nearest(place: Float32[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Round to the nearest integer, with halves away from zero."""
    whole = np.trunc(place)
    return (whole + np.trunc(2 * (place - whole))).astype(np.int64)


def _slide(images: UInt8[Tensor, "n c h w"], dim: int, pixels: float) -> UInt8[Tensor, "n c h w"]:
    """``y(i) = x(nearest(i + pixels))`` along one axis."""
    result = torch.full_like(images, FILL)
    for first, source, length in _runs(pixels, images.shape[dim]):
        result.narrow(dim, first, length).copy_(images.narrow(dim, source, length))
    return result


@lru_cache(maxsize=16)
def _runs(pixels: float, length: int) -> list[tuple[int, int, int]]:
    """Runs of pixels that move together: first position, first source position, length.

    There is one run unless float32 rounds a fraction near one half up at only some positions.
    """
    places = _nearest(np.arange(length, dtype=np.float32) + np.float32(pixels))
    (inside,) = np.nonzero((places >= 0) & (places < length))
    ends = np.flatnonzero(np.diff(places[inside] - inside)) + 1
    runs = (run for run in np.split(inside, ends) if len(run))
    return [(int(run[0]), int(places[run[0]]), len(run)) for run in runs]
