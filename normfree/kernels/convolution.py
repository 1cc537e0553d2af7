"""Convolutions of maps in channels-last memory on the CPU, and their gradients.

The filters are standardized while they are packed for the matrix product, and the gradient of the
standardized filters becomes that of the filters while it is in the cache. So standardized filters
are never written to memory.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor

from normfree.kernels.eager import plain
from normfree.kernels.library import library
from normfree.kernels.pointers import threads

_MULTIPLY_ADD, _PACKING = 0.01, 0.5  # nanoseconds of one thread; packing is of a weight
_FIELDS = (
    *("n", "groups", "in_height", "in_width", "in_channels"),
    *("out_height", "out_width", "out_channels"),
    *("kernel_height", "kernel_width", "stride_height", "stride_width"),
    *("dilation_height", "dilation_width", "top", "left"),
)


class _Shape(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in _FIELDS)


class Window(NamedTuple):
    """How filters move over a map.

    Attributes:
        stride: step between outputs, pixels.
        dilation: step between taps of a filter, pixels.
        padding: zeros before and after each axis: top, bottom, left, right.
        groups: number of groups the channels are split into.
    """

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    def output(self, x: torch.Size, weight: torch.Size) -> tuple[int, int, int, int]:
        """The shape of the output."""
        top, bottom, left, right = self.padding
        kernel = [(k - 1) * d + 1 for k, d in zip(weight[2:], self.dilation, strict=True)]
        height = (x[2] + top + bottom - kernel[0]) // self.stride[0] + 1
        width = (x[3] + left + right - kernel[1]) // self.stride[1] + 1
        return x[0], weight[0], height, width


def supported(*tensors: Tensor | None) -> bool:
    """Whether the kernels can take these tensors: float32 on the CPU, where there are kernels."""
    return library() is not None and plain(*tensors)


def convolve(
    x: Float32[Tensor, "n i h w"],
    weight: Float32[Tensor, "o k kh kw"],
    gain: Float32[Tensor, " o"] | None,
    bias: Float32[Tensor, " o"] | None,
    eps: float,
    window: Window,
) -> Float32[Tensor, "n o h2 w2"]:
    """The convolution with filters that are standardized if there is a gain.

    Args:
        x: feature map.
        weight: filters.
        gain: gain of each standardized filter; None applies the filters as they are.
        bias: bias of each filter.
        eps: lower bound on the sum of squares of a centered filter.
        window: how the filters move.
    """
    kernels = library()
    assert kernels is not None
    x, filters = _last(x), _Filters(weight, gain, eps)
    y = torch.empty(window.output(x.shape, weight.shape), memory_format=torch.channels_last)
    _check(
        kernels.normfree_convolve(
            _shape(x.shape, weight.shape, window),
            *filters.arguments,
            _pointer(x),
            _pointer(None if bias is None else bias.contiguous()),
            _pointer(y),
            _threads(y.shape, weight),
        )
    )
    return y


def input_gradient(
    shape: torch.Size,
    weight: Float32[Tensor, "o k kh kw"],
    gain: Float32[Tensor, " o"] | None,
    eps: float,
    window: Window,
    grad: Float32[Tensor, "n o h2 w2"],
) -> Float32[Tensor, "n i h w"]:
    """The gradient of the map, from that of the output.

    Args:
        shape: shape of the map.
        weight: filters.
        gain: gain of each standardized filter, or None.
        eps: as in :func:`convolve`.
        window: how the filters move.
        grad: gradient of the output.
    """
    kernels = library()
    assert kernels is not None
    grad, filters = _last(grad), _Filters(weight, gain, eps)
    result = torch.empty(shape, memory_format=torch.channels_last)
    _check(
        kernels.normfree_convolve_input_gradient(
            _shape(shape, weight.shape, window),
            *filters.arguments,
            _pointer(grad),
            _pointer(result),
            _threads(grad.shape, weight),
        )
    )
    return result


def weight_gradients(
    x: Float32[Tensor, "n i h w"],
    weight: Float32[Tensor, "o k kh kw"],
    gain: Float32[Tensor, " o"] | None,
    eps: float,
    window: Window,
    grad: Float32[Tensor, "n o h2 w2"],
    *,
    with_bias: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradients of the filters, of their gains and of the biases.

    Args:
        x: feature map.
        weight: filters.
        gain: gain of each standardized filter, or None.
        eps: as in :func:`convolve`.
        window: how the filters move.
        grad: gradient of the output.
        with_bias: whether the gradient of the biases is wanted.
    """
    kernels = library()
    assert kernels is not None
    x, grad, filters = _last(x), _last(grad), _Filters(weight, gain, eps)
    of_weight = torch.empty_like(filters.weight)
    of_gain = None if gain is None else torch.empty_like(gain)
    of_bias = torch.empty(len(weight)) if with_bias else None
    _check(
        kernels.normfree_convolve_weight_gradient(
            _shape(x.shape, weight.shape, window),
            *filters.arguments,
            _pointer(x),
            _pointer(grad),
            _pointer(of_weight),
            _pointer(of_gain),
            _pointer(of_bias),
            _threads(grad.shape, weight),
        )
    )
    return of_weight, of_gain, of_bias


def _threads(output: torch.Size, weight: Tensor) -> ctypes.c_int64:
    """For the multiply-adds of an output of this shape, and for packing the filters."""
    pixels = output[0] * output[2] * output[3]
    return threads((_MULTIPLY_ADD * pixels + _PACKING) * weight.numel())


class _Filters:
    """Filters as C arguments; keeps the tensors alive."""

    def __init__(self, weight: Tensor, gain: Tensor | None, eps: float) -> None:
        taps_first = not weight.is_contiguous()
        self.weight = _last(weight) if taps_first else weight
        self.gain = None if gain is None else gain.contiguous()
        self.arguments = (
            _pointer(self.weight),
            _pointer(self.gain),
            ctypes.c_float(eps),
            ctypes.c_int64(taps_first),
        )


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


@lru_cache(maxsize=4096)
def _shape(x: torch.Size, weight: torch.Size, window: Window) -> ctypes._Pointer[_Shape]:
    n, channels, height, width = x
    if (
        len(weight) != 4
        or weight[1] * window.groups != channels
        or weight[0] % window.groups
        or max(height * width, 1) >= 1 << 31
    ):
        raise ValueError(f"filters {tuple(weight)} do not fit a map {tuple(x)} and {window}")
    _, out_channels, out_height, out_width = window.output(x, weight)
    if min(out_height, out_width) < 1:
        raise ValueError(f"filters {tuple(weight)} are larger than a map {tuple(x)}, {window}")
    sizes = (n, window.groups, height, width, channels, out_height, out_width, out_channels)
    moves = (*weight[2:], *window.stride, *window.dilation, window.padding[0], window.padding[2])
    return ctypes.pointer(_Shape(*sizes, *moves))


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("a convolution ran out of memory")
