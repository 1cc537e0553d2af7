"""TensorFlow's bicubic resize, which the authors apply to every image.

An output pixel is a weighted mean of 4 × 4 input pixels at any scale; there is no antialiasing.
Values are not clamped and may leave [0, 255].
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, UInt8

_STEPS = 1024  # TensorFlow looks the cubic up in a table with this many steps; so do we
_WIDE = 8  # above this ratio of widths, only the columns that are used are resized vertically


class Taps(NamedTuple):
    """The four input pixels of each output pixel along one axis, and their weights."""

    inputs: Int[np.ndarray, "out 4"]
    weights: Float32[np.ndarray, "out 4"]


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


@lru_cache(maxsize=1024)
def cubic_taps(length: int, out: int) -> Taps:
    """The taps that resize one axis, with pixel centers at half-integers.

    Output ``i`` samples the input at ``(i + ½)·length/out − ½``. Taps outside the image have zero
    weight, and the others are divided by their sum.

    Args:
        length: input pixels along the axis.
        out: output pixels along the axis.

    >>> taps = cubic_taps(4, 2)
    >>> taps.inputs[0], taps.weights[0]
    (array([0, 0, 1, 2]), array([ 0.        ,  0.5294118 ,  0.5294118 , -0.05882353],
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
    weights = np.where((inputs >= 0) & (inputs < length), weights, np.float32(0))
    taps = Taps(inputs.clip(0, length - 1), weights / weights.sum(axis=1, keepdims=True))
    for array in taps:
        array.flags.writeable = False  # the cache shares it with every caller
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
    rows = _windowed(cubic_taps(image.shape[0], height), window[0])
    columns = _windowed(cubic_taps(image.shape[1], width), window[1])
    if image.shape[1] > _WIDE * len(columns.inputs):  # each output reads at most 4 columns
        read, places = np.unique(columns.inputs, return_inverse=True)
        image = np.take(image, read, axis=1)
        columns = Taps(places.reshape(-1, 4), columns.weights)
    across = _weigh_rows(image, rows)
    # Resize the second axis as rows of the transposed image: copying whole rows is fast.
    down = _weigh_rows(across.transpose(1, 0, 2), columns)
    return np.ascontiguousarray(down.transpose(1, 0, 2))


def _windowed(taps: Taps, window: slice) -> Taps:
    return Taps(taps.inputs[window], taps.weights[window])


def _weigh_rows(
    image: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"], taps: Taps
) -> Float32[np.ndarray, "out w c"]:
    image = np.ascontiguousarray(image)
    inputs, weights = taps.inputs, taps.weights[..., None, None]
    result: Float32[np.ndarray, "out w c"] = weights[:, 0] * image[inputs[:, 0]]
    for tap in range(1, 4):
        result += weights[:, tap] * image[inputs[:, tap]]
    return result
