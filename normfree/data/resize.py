"""Resizing: TensorFlow's bicubic, which the authors apply to every image, and antialiased filters.

Every output pixel is a weighted mean of input pixels, along rows and columns separately. With
TensorFlow's bicubic these are 4 × 4 pixels at any scale, without antialiasing. Values are not
clamped and may leave [0, 255]. The equations here and the kernel give the same bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from normfree import kernels
from normfree.kernels.resize import Axis

Resize: TypeAlias = Literal["tensorflow", "bicubic", "bilinear"]
"""``tensorflow``: bicubic without antialiasing, as the authors resize. ``bicubic`` and
``bilinear``: with antialiasing, as Pillow and torchvision resize."""

_STEPS = 1024  # TensorFlow looks the cubic up in a table with this many steps; so do we
_WIDE = 8  # above this ratio of widths, only the columns that are used are resized vertically
_MULTIPLE = 4  # of taps, for the kernel


class Taps(NamedTuple):
    """The input pixels of each output pixel along one axis, ascending, and their weights."""

    inputs: Int32[np.ndarray, "out taps"]
    weights: Float32[np.ndarray, "out taps"]


def keys_cubic(x: Float32[np.ndarray, "*n"], a: float = -0.5) -> Float32[np.ndarray, "*n"]:
    """Keys' cubic convolution kernel.

    ``(a+2)|x|³ − (a+3)|x|² + 1`` for ``|x| ≤ 1``, then ``a|x|³ − 5a|x|² + 8a|x| − 4a`` up to
    ``|x| = 2``, then 0.

    Args:
        x: distance from the sampled point, in input pixels.
        a: slope at 1; −0.5 makes it exact for quadratics.

    >>> keys_cubic(np.array([0.0, 0.5, 1.0, 1.5, 2.0], dtype=np.float32))
    array([ 1.    ,  0.5625,  0.    , -0.0625,  0.    ], dtype=float32)

    Source: Keys, *Cubic convolution interpolation for digital image processing* (1981).
    """
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0)).astype(np.float32)


def triangle(x: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """The triangle ``max(0, 1 − |x|)``, whose filter is linear interpolation.

    Args:
        x: distance from the sampled point, in input pixels.

    >>> triangle(np.array([0.0, 0.25, 2.0], dtype=np.float32))
    array([1.  , 0.75, 0.  ], dtype=float32)
    """
    return np.maximum(0, 1 - np.abs(x)).astype(np.float32)


_FILTERS = {"bicubic": (keys_cubic, 2), "bilinear": (triangle, 1)}  # and where they become 0


def resize_taps(length: int, out: int, resize: Resize = "tensorflow") -> Taps:
    """The taps that resize one axis.

    Args:
        length: input pixels along the axis.
        out: output pixels along the axis.
        resize: the filter.

    >>> resize_taps(8, 2, "bilinear").weights.round(3)
    array([[0.179, 0.25 , 0.25 , 0.179, 0.107, 0.036, 0.   , 0.   ],
           [0.036, 0.107, 0.179, 0.25 , 0.25 , 0.179, 0.   , 0.   ]],
          dtype=float32)
    """
    return cubic_taps(length, out) if resize == "tensorflow" else _antialiased(length, out, resize)


@lru_cache(maxsize=1024)
def cubic_taps(length: int, out: int) -> Taps:
    """The taps of TensorFlow's bicubic, with pixel centers at half-integers.

    Output ``i`` samples the input at ``(i + ½)·length/out − ½``. Taps outside the image have zero
    weight, and the others are divided by their sum.

    Args:
        length: input pixels along the axis.
        out: output pixels along the axis.

    >>> taps = cubic_taps(4, 2)
    >>> taps.inputs[0], taps.weights[0]
    (array([0, 0, 1, 2], dtype=int32), array([ 0.        ,  0.5294118 ,  0.5294118 , -0.05882353],
      dtype=float32))

    Differs from: an exact cubic. The distance is rounded to 1/1024 pixel, as in TensorFlow;
    without the rounding, results differ from the reference by 0.03 to 0.04 gray levels.
    """
    scale = np.float32(length) / np.float32(out)
    place = (np.arange(out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    left = np.floor(place)
    fraction = np.rint((place - left) * np.float32(_STEPS)) / np.float32(_STEPS)
    offset = np.arange(-1, 3)
    inputs = left.astype(np.int64)[:, None] + offset
    weights = keys_cubic(offset.astype(np.float32) - fraction[:, None])
    return _shared(inputs, weights, length)


@lru_cache(maxsize=1024)
def _antialiased(length: int, out: int, resize: Literal["bicubic", "bilinear"]) -> Taps:
    """A filter stretched by the scale where the image becomes smaller, so that it averages."""
    kernel, reach = _FILTERS[resize]
    scale = length / out
    stretch = max(scale, 1.0)
    center = (np.arange(out) + 0.5) * scale
    first = (center - reach * stretch + 0.5).astype(np.int64).clip(0)
    last = (center + reach * stretch + 0.5).astype(np.int64).clip(max=length)
    most = -(-int((last - first).max()) // _MULTIPLE) * _MULTIPLE
    inputs = first[:, None] + np.arange(most)
    weights = kernel(((inputs + 0.5 - center[:, None]) / stretch).astype(np.float32))
    return _shared(inputs, np.where(inputs < last[:, None], weights, np.float32(0)), length)


def _shared(inputs: np.ndarray, weights: Float32[np.ndarray, "out taps"], length: int) -> Taps:
    """Normalized taps inside the image, which a cache shares with every caller."""
    weights = np.where((inputs >= 0) & (inputs < length), weights, np.float32(0))
    weights = weights / weights.sum(axis=1, keepdims=True)
    taps = Taps(inputs.clip(0, length - 1).astype(np.int32), weights)
    for array in taps:
        array.flags.writeable = False
    return taps


def resize_bicubic(
    image: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"],
    height: int,
    width: int,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> Float32[np.ndarray, "out_h out_w c"]:
    """Resize an image, or compute only a window of the resized image.

    Args:
        image: input image.
        height: height of the resized image, pixels.
        width: width of the resized image, pixels.
        window: rows and columns of the result to compute; all by default.

    Returns:
        The window, in the units of ``image``, not clamped. Memory is bounded by ``8 · width``
        columns of the result, however wide the input.

    >>> image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    >>> resize_bicubic(image, 2, 2)[..., 0]
    array([[ 2.0588238,  4.2352943],
           [10.764707 , 12.941177 ]], dtype=float32)

    Source: ``tf.image.resize(image, (height, width), "bicubic")`` of TensorFlow 2.
    """
    sizes = zip(image.shape[:2], (height, width), window, strict=True)
    rows, columns = (
        Axis(taps.inputs[part], taps.weights[part])
        for taps, part in ((cubic_taps(length, out), part) for length, out, part in sizes)
    )
    shape = (image.shape[2], len(rows.inputs), len(columns.inputs))
    out = np.empty(shape, dtype=np.float32)
    resample(image, rows, columns, out)
    return out.transpose(1, 2, 0)


def resample(
    image: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"],
    rows: Axis,
    columns: Axis,
    out: Float32[np.ndarray, "c out_h out_w"] | UInt8[np.ndarray, "c out_h out_w"],
) -> None:
    """Fill ``out`` with weighted sums of rows, then of columns.

    Args:
        image: input image.
        rows: taps along the height.
        columns: taps along the width.
        out: the result; uint8 is rounded to the nearest and clipped.

    >>> image, out = np.full((4, 4, 1), 7, dtype=np.uint8), np.empty((1, 2, 3), dtype=np.uint8)
    >>> resample(image, Axis(*cubic_taps(4, 2)), Axis(*cubic_taps(4, 3)), out)
    >>> out.tolist()
    [[[7, 7, 7], [7, 7, 7]]]
    """
    if image.shape[1] > _WIDE * columns.inputs.size:
        read, places = np.unique(columns.places, return_inverse=True)
        image = np.take(image, read, axis=1)
        places = places.reshape(columns.inputs.shape).astype(np.int32)
        columns = Axis(places, columns.weights)
    if not kernels.resize(image, rows, columns, out):
        _weigh(image, rows, columns, out)


def _weigh(
    image: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"],
    rows: Axis,
    columns: Axis,
    out: Float32[np.ndarray, "c out_h out_w"] | UInt8[np.ndarray, "c out_h out_w"],
) -> None:
    """The equation of :func:`resample`."""
    across = _weigh_rows(image, rows)
    # Resize the second axis as rows of the transposed image: copying whole rows is fast.
    found = _weigh_rows(across.transpose(1, 0, 2), columns).transpose(2, 1, 0)
    out[...] = np.rint(found.clip(0, 255)) if out.dtype == np.uint8 else found


def _weigh_rows(
    image: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"], axis: Axis
) -> Float32[np.ndarray, "out w c"]:
    image = np.ascontiguousarray(image)
    places, weights = axis.places, axis.weights[..., None, None]
    result: Float32[np.ndarray, "out w c"] = weights[:, 0] * image[places[:, 0]]
    for tap in range(1, places.shape[1]):
        result += weights[:, tap] * image[places[:, tap]]
    return result
