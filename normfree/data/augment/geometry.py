"""RandAugment's operations that move pixels: whole batches of bytes, nearest neighbour.

All images of a batch move alike, so there is one map of pixels for them. The maps are the authors'
to the bit: ``tfa.image.transform`` computes an output pixel's place in the input in float32, with a
rounding after each product and sum, and takes the nearest pixel, a half going away from zero.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64, UInt8
from torch import Tensor

from normfree.data.augment.operations import FILL

_Map = tuple[float, float, float, float, float, float]


def rotate(images: UInt8[Tensor, "n c h w"], degrees: float) -> UInt8[Tensor, "n c h w"]:
    """Turn about the centre, counter-clockwise for positive degrees.

    Grey, 128, comes in from outside.

    >>> image = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    >>> rotate(image, 90)
    tensor([[[[2, 4],
              [1, 3]]]], dtype=torch.uint8)

    Differs from: timm's and torchvision's, which turn about another half pixel.
    """
    height, width = images.shape[2:]
    return _resample(images, _rotation(degrees, height, width))


def shear_x(images: UInt8[Tensor, "n c h w"], shear: float) -> UInt8[Tensor, "n c h w"]:
    """Move each row to the left by ``shear·row`` pixels; the top row stays.

    >>> shear_x(torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3), 1.0)
    tensor([[[[  0,   1,   2],
              [  4,   5, 128]]]], dtype=torch.uint8)

    Differs from: torchvision's, which shears about the centre.
    """
    return _resample(images, (1.0, shear, 0.0, 0.0, 1.0, 0.0))


def shear_y(images: UInt8[Tensor, "n c h w"], shear: float) -> UInt8[Tensor, "n c h w"]:
    """Move each column up by ``shear·column`` pixels; the left column stays.

    >>> shear_y(torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3), 1.0)
    tensor([[[[  0,   4, 128],
              [  3, 128, 128]]]], dtype=torch.uint8)

    Differs from: torchvision's, which shears about the centre.
    """
    return _resample(images, (1.0, 0.0, 0.0, shear, 1.0, 0.0))


def translate_x(images: UInt8[Tensor, "n c h w"], pixels: float) -> UInt8[Tensor, "n c h w"]:
    """Move to the left by ``pixels``; grey, 128, comes in from the right.

    >>> translate_x(torch.arange(3, dtype=torch.uint8).view(1, 1, 1, 3), 1)
    tensor([[[[  1,   2, 128]]]], dtype=torch.uint8)
    """
    return _slide(images, 3, pixels)


def translate_y(images: UInt8[Tensor, "n c h w"], pixels: float) -> UInt8[Tensor, "n c h w"]:
    """Move up by ``pixels``; grey, 128, comes in from below.

    >>> translate_y(torch.arange(3, dtype=torch.uint8).view(1, 1, 3, 1), -1).flatten()
    tensor([128,   0,   1], dtype=torch.uint8)
    """
    return _slide(images, 2, pixels)


def _rotation(degrees: float, height: int, width: int) -> _Map:
    """The place in the input of an output pixel, for a turn about the centre."""
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
    framed[:, :-1] = images.reshape(n * c, -1)
    return framed.gather(1, pixels.expand(n * c, -1)).view(n, c, height, width)


@lru_cache(maxsize=16)
def _pixels(
    matrix: _Map, height: int, width: int, device: torch.device
) -> Int64[Tensor, " pixels"]:
    """Which input pixel each output pixel takes; ``height·width`` for one outside."""
    a, b, c, d, e, f = (np.float32(value) for value in matrix)
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    columns = _nearest((a * x + b * y) + c)
    rows = _nearest((d * x + e * y) + f)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    pixels = np.where(inside, rows * width + columns, height * width)
    return torch.from_numpy(pixels.reshape(-1)).to(device)


def _nearest(place: Float32[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """The nearest whole number, a half going away from zero."""
    whole = np.trunc(place)
    return (whole + np.trunc(2 * (place - whole))).astype(np.int64)


def _slide(images: UInt8[Tensor, "n c h w"], dim: int, pixels: float) -> UInt8[Tensor, "n c h w"]:
    """``y(i) = x(nearest(i + pixels))`` along one axis, by copying the runs that move alike."""
    length = images.shape[dim]
    result = torch.full_like(images, FILL)
    places = _nearest(np.arange(length, dtype=np.float32) + np.float32(pixels))
    (inside,) = np.nonzero((places >= 0) & (places < length))
    # One run, unless float32 rounds a fraction of nearly a half up for some columns only.
    shifts = places[inside] - inside
    for run in np.split(inside, np.flatnonzero(np.diff(shifts)) + 1):
        if len(run):
            source = images.narrow(dim, int(places[run[0]]), len(run))
            result.narrow(dim, int(run[0]), len(run)).copy_(source)
    return result
