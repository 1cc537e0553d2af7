"""Weighted sums of an image's rows, then of its columns, on the CPU."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from normfree.kernels.library import library

_NO_MEMORY, _OUTSIDE = 1, 3
_TAPS = 4  # taps come in multiples of this


class Axis(NamedTuple):
    """The taps of each output along one axis: inputs ``origin + step · inputs``, and weights.

    Attributes:
        inputs: input pixels of each output.
        weights: their weights; 0 where there are fewer taps than the rows have columns.
        origin: what is added to all inputs.
        step: 1, or −1 to mirror.
    """

    inputs: Int32[np.ndarray, "out taps"]
    weights: Float32[np.ndarray, "out taps"]
    origin: int = 0
    step: int = 1

    @property
    def places(self) -> Int32[np.ndarray, "out taps"]:
        """The input pixels, with origin and step."""
        return self.origin + self.step * self.inputs

    def ends(self) -> tuple[int, int]:
        """The first and one past the last input pixel, if inputs ascend along both axes."""
        first, last = (self.origin + self.step * int(self.inputs[at, at]) for at in (0, -1))
        return min(first, last), max(first, last) + 1


class _Axis(ctypes.Structure):
    _fields_ = (
        ("inputs", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("outputs", ctypes.c_int64),
        ("taps", ctypes.c_int64),
        ("origin", ctypes.c_int64),
        ("step", ctypes.c_int64),
    )


def resize(
    image: UInt8[np.ndarray, "h w c"],
    rows: Axis,
    columns: Axis,
    out: Float32[np.ndarray, "c out_h out_w"] | UInt8[np.ndarray, "c out_h out_w"],
) -> bool:
    """Fill ``out``, rounded and clipped if it is uint8; False if there is no kernel for it.

    Args:
        image: bytes; rows may have gaps between them, pixels may not.
        rows: taps along the height.
        columns: taps along the width.
        out: a contiguous array.

    Raises:
        ValueError: a tap lies outside the image, or the shapes do not match.
        MemoryError: there is not enough memory for a row.
    """
    kernels, (height, width, channels) = library(), image.shape
    if (
        kernels is None
        or image.dtype != np.uint8
        or image.strides[1:] != (channels, 1)
        or image.strides[0] < 0
        or out.dtype not in (np.float32, np.uint8)
        or rows.inputs.shape[1] % _TAPS
        or columns.inputs.shape[1] % _TAPS
    ):
        return False
    shape = (channels, len(rows.inputs), len(columns.inputs))
    if out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"out should be contiguous {shape}; got {out.shape}")
    failed = kernels.normfree_resize(
        ctypes.c_void_p(_address(image)),
        *map(ctypes.c_int64, (height, width, channels, image.strides[0])),
        ctypes.byref(_structure(rows)),
        ctypes.byref(_structure(columns)),
        ctypes.c_void_p(_address(out)),
        ctypes.c_int64(out.dtype == np.uint8),
    )
    if failed == _NO_MEMORY:
        raise MemoryError("not enough memory to resize an image")
    if failed == _OUTSIDE:
        raise ValueError("a tap lies outside the image")
    return True


def _structure(axis: Axis) -> _Axis:
    for values, dtype in ((axis.inputs, np.int32), (axis.weights, np.float32)):
        if values.dtype != dtype or not values.flags.c_contiguous:
            raise ValueError(f"taps should be contiguous {np.dtype(dtype)}; got {values.dtype}")
    if axis.inputs.shape != axis.weights.shape:
        raise ValueError(f"{axis.inputs.shape} inputs have {axis.weights.shape} weights")
    pointers = _address(axis.inputs), _address(axis.weights)
    return _Axis(*pointers, *axis.inputs.shape, axis.origin, axis.step)


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
