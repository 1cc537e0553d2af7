"""Linear layers of few rows on the CPU, whose time is that of reading the weights once.

A library of matrix products prepares weights for many rows; with few rows that is most of the work.
Results do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float32
from torch import Tensor

from normfree.kernels.eager import plain
from normfree.kernels.library import library
from normfree.kernels.pointers import pointer, threads

_NANOSECONDS, _PRODUCT = 0.2, 0.02  # of one thread, for a weight: to read it, and for each row

#: Most rows for which the kernels are faster than a matrix product.
MOST_ROWS = 32


def supported(*tensors: Tensor | None) -> bool:
    """Whether tensors are plain, float32 and contiguous, on the host, and there are kernels.

    >>> supported(torch.zeros(2, dtype=torch.float64)), supported(torch.zeros(2, 4).T)
    (False, False)
    """
    return (
        plain(*tensors)
        and all(x is None or x.is_contiguous() for x in tensors)
        and library() is not None
    )


def linear(
    x: Float32[Tensor, "n i"],
    weight: Float32[Tensor, "o i"],
    bias: Float32[Tensor, " o"] | None = None,
) -> Float32[Tensor, "n o"]:
    """``x @ weight.T + bias``.

    Args:
        x: a few rows; all tensors are :func:`supported`.
        weight: one row for each output.
        bias: 0 if None.
    """
    kernels = library()
    assert kernels is not None
    (n, fan_in), out = x.shape, len(weight)
    result = torch.empty(n, out)
    kernels.normfree_linear(
        pointer("x", x, torch.float32, (n, fan_in)),
        pointer("weight", weight, torch.float32, (out, fan_in)),
        None if bias is None else pointer("bias", bias, torch.float32, (out,)),
        pointer("result", result, torch.float32, (n, out)),
        *map(ctypes.c_int64, (n, fan_in, out)),
        threads((_NANOSECONDS + _PRODUCT * n) * weight.numel()),
    )
    return result


def linear_gradients(
    grad: Float32[Tensor, "n o"], x: Float32[Tensor, "n i"], weight: Float32[Tensor, "o i"]
) -> tuple[Float32[Tensor, "n i"], Float32[Tensor, "o i"]]:
    """``grad @ weight`` and ``grad.T @ x``, the gradients of the inputs and of the weights.

    Args:
        grad: gradient of the result; all tensors are :func:`supported`.
        x: inputs of :func:`linear`.
        weight: weights of :func:`linear`.
    """
    kernels = library()
    assert kernels is not None
    (n, fan_in), out = x.shape, len(weight)
    x_grad, weight_grad = torch.empty_like(x), torch.empty_like(weight)
    kernels.normfree_linear_gradient(
        pointer("grad", grad, torch.float32, (n, out)),
        pointer("x", x, torch.float32, (n, fan_in)),
        pointer("weight", weight, torch.float32, (out, fan_in)),
        pointer("x_grad", x_grad, torch.float32, (n, fan_in)),
        pointer("weight_grad", weight_grad, torch.float32, (out, fan_in)),
        *map(ctypes.c_int64, (n, fan_in, out)),
        threads((_NANOSECONDS + _PRODUCT * n) * weight.numel()),
    )
    return x_grad, weight_grad
