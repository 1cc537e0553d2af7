"""Activations and gates of feature maps on the CPU, each in one pass over the map.

Results are the same to the bit with every instruction set and number of threads. They equal the
equations up to rounding.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from jaxtyping import Float32
from torch import Tensor

from normfree.kernels.eager import plain
from normfree.kernels.library import library
from normfree.kernels.pointers import threads

_NANOSECONDS = 0.25  # of one thread, for an element

#: The activations that have a kernel.
ACTIVATIONS = frozenset(("gelu", "relu", "silu"))


def supported(x: object) -> bool:
    """Whether a tensor is plain, float32 and without gaps, on the host, and there are kernels.

    >>> supported(torch.zeros(2, dtype=torch.float64)), supported(torch.zeros(2, 4)[:, ::2])
    (False, False)
    """
    return isinstance(x, Tensor) and plain(x) and _dense(x) and library() is not None


def activate(
    name: str,
    x: Float32[Tensor, "..."],
    scale: float,
    grad: Float32[Tensor, "..."] | None = None,
) -> Float32[Tensor, "..."]:
    """``scale · f(x)``, or with ``grad`` its gradient ``grad · scale · f'(x)``.

    Args:
        name: one of :data:`ACTIVATIONS`.
        x: a :func:`supported` tensor.
        scale: factor of the activation.
        grad: gradient of the result, in any memory format.
    """
    kernels = library()
    assert kernels is not None
    grad, result = None if grad is None else like(x, grad), torch.empty_like(x)
    kernels.normfree_activate(
        *map(_pointer, (x, grad, result)),
        ctypes.c_int64(x.numel()),
        ctypes.c_int64(_kinds()[name]),
        ctypes.c_float(scale),
        _threads(x),
    )
    return result


def gate(
    x: Float32[Tensor, "n c h w"],
    factor: Float32[Tensor, "n c"],
    skip: Float32[Tensor, "n c h w"] | None = None,
    shift: Float32[Tensor, "n c"] | None = None,
) -> Float32[Tensor, "n c h w"]:
    """``x · factor + skip``, or ``x · factor + shift``, in the memory format of ``x``.

    Args:
        x: a :func:`supported` map.
        factor: one number for each channel of each image.
        skip: in any memory format.
        shift: one number for each channel of each image.
    """
    kernels = library()
    assert kernels is not None
    skip = None if skip is None else like(x, skip)
    shift = None if shift is None else shift.contiguous()
    factor, result = factor.contiguous(), torch.empty_like(x)
    kernels.normfree_gate(*map(_pointer, (x, factor, skip, shift, result)), *_sizes(x), _threads(x))
    return result


def channel_sums(
    x: Float32[Tensor, "n c h w"], other: Float32[Tensor, "n c h w"] | None = None
) -> Float32[Tensor, "n c"]:
    """The sums over pixels of ``x``, or of ``x · other``.

    Args:
        x: a :func:`supported` map.
        other: in any memory format.
    """
    return _sums(x, other, None)[0]


def gate_gradients(
    grad: Float32[Tensor, "n c h w"],
    x: Float32[Tensor, "n c h w"],
    factor: Float32[Tensor, "n c"],
) -> tuple[Float32[Tensor, "n c h w"], Float32[Tensor, "n c"]]:
    """The gradients of :func:`gate` with respect to ``x`` and ``factor``, in one pass.

    Args:
        grad: gradient of the result, in any memory format.
        x: a :func:`supported` map.
        factor: one number for each channel of each image.
    """
    sums, result = _sums(like(x, grad), x, factor.contiguous())
    return result, sums


@cache
def _kinds() -> dict[str, int]:
    """The activations that have a kernel, with their numbers in C."""
    kernels = library()
    assert kernels is not None
    kernels.normfree_activations.restype = ctypes.c_char_p
    names = kernels.normfree_activations().decode().split()
    return {name: number for number, name in enumerate(names)}


def like(x: Tensor, other: Tensor) -> Tensor:
    """A float32 tensor in the memory format of ``x``, copied only if it is in another."""
    if supported(other) and _strides_match(x, other):
        return other
    return torch.empty_like(x).copy_(other)


def without_gaps(x: Tensor) -> Tensor:
    """A tensor without gaps, such as a gradient that was expanded, copied only if needed."""
    return x if _dense(x) else x.contiguous()


def _sums(
    x: Tensor, other: Tensor | None, factor: Tensor | None
) -> tuple[Float32[Tensor, "n c"], Tensor]:
    kernels = library()
    assert kernels is not None
    other = None if other is None else like(x, other)
    sums = torch.empty(x.shape[:2])
    result = sums if factor is None else torch.empty_like(x)
    kernels.normfree_sum(*map(_pointer, (x, other, factor, result, sums)), *_sizes(x), _threads(x))
    return sums, result


def _dense(x: Tensor) -> bool:
    last = torch.channels_last
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=last))


def _strides_match(x: Tensor, other: Tensor) -> bool:
    """Whether dense tensors have the same memory format; axes of size 1 do not matter."""
    if x.shape != other.shape:
        return False
    return x.is_contiguous() == other.is_contiguous() or x.stride() == other.stride()


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor that has been checked, or was made here."""
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _sizes(x: Tensor) -> list[ctypes.c_int64]:
    """Images, channels and pixels, and whether the channels are last."""
    n, channels, height, width = x.shape
    sizes = (n, channels, height * width, not x.is_contiguous())
    return [ctypes.c_int64(size) for size in sizes]


def _threads(x: Tensor) -> ctypes.c_int64:
    return threads(_NANOSECONDS * x.numel())
