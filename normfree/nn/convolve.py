"""Convolution with plain or standardized filters: by the package's kernels, or by PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from normfree.kernels import convolution as kernels
from normfree.kernels.convolution import Window
from normfree.nn.functional import conv2d_padded, standardize_weight

#: Fewest output channels of a group for which the kernels are faster than PyTorch.
FEWEST_CHANNELS = 16


def convolve(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o k kh kw"],
    gain: Float[Tensor, " o"] | None,
    bias: Float[Tensor, " o"] | None,
    eps: float,
    window: Window,
) -> Float[Tensor, "n o h2 w2"]:
    r"""The convolution :math:`y = \hat W * x + b`, with filters standardized if there is a gain.

    On the CPU in float32, kernels standardize the filters while they pack them, and return maps in
    channels-last memory. Elsewhere, and under ``torch.compile``, autocast and ``torch.func``,
    PyTorch computes the equation.

    Args:
        x: feature map, in any memory layout.
        weight: filters, output channels first.
        gain: gain of each standardized filter; None applies the filters as they are.
        bias: bias of each filter.
        eps: lower bound on :math:`N\sigma^2` of a filter.
        window: stride, dilation, padding and groups.

    Example:
        >>> x, weight = torch.randn(2, 32, 5, 5), torch.randn(16, 32, 1, 1)
        >>> y = convolve(x, weight, torch.ones(16), None, 1e-4, Window())
        >>> torch.allclose(y, equation(x, weight, torch.ones(16), None, 1e-4, Window()), atol=1e-5)
        True
    """
    tensors = (x, weight, gain, bias)
    if not _fits_kernels(x, weight, gain, bias, window):
        return equation(x, weight, gain, bias, eps, window)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        y: Tensor = _Convolution.apply(x, weight, gain, bias, eps, window)
        return y
    return kernels.convolve(x, weight, gain, bias, eps, window)


def equation(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o k kh kw"],
    gain: Float[Tensor, " o"] | None,
    bias: Float[Tensor, " o"] | None,
    eps: float,
    window: Window,
) -> Float[Tensor, "n o h2 w2"]:
    """The same by PyTorch's operations."""
    filters = weight if gain is None else standardize_weight(weight, gain, eps)
    return conv2d_padded(x, filters, bias, window)


def _fits_kernels(
    x: Tensor, weight: Tensor, gain: Tensor | None, bias: Tensor | None, window: Window
) -> bool:
    """Whether the kernels compute this call: the tensors are plain, and nothing traces them."""
    if torch.compiler.is_compiling() or not kernels.supported(x, weight, gain, bias):
        return False
    return (
        x.numel() > 0
        and len(weight) // window.groups >= FEWEST_CHANNELS
        and type(x) is Tensor
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and torch._C._len_torch_dispatch_stack() == 0
    )


class _Convolution(Function):
    """The kernels, with their gradients; their gradients' gradients are those of the equation."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        eps: float,
        window: Window,
    ) -> Tensor:
        """Keep the inputs; the standardized filters are made again."""
        ctx.save_for_backward(x, weight, gain, bias)
        ctx.eps, ctx.window = eps, window
        return kernels.convolve(x, weight, gain, bias, eps, window)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that are needed."""
        x, weight, gain, _ = ctx.saved_tensors
        needed, eps, window = ctx.needs_input_grad, ctx.eps, ctx.window
        if torch.is_grad_enabled():
            return *_differentiable(ctx.saved_tensors, needed, eps, window, grad), None, None
        of_x = of_weight = of_gain = of_bias = None
        if needed[0]:
            of_x = kernels.input_gradient(x.shape, weight, gain, eps, window, grad)
        if any(needed[1:4]):
            of_weight, of_gain, of_bias = kernels.weight_gradients(
                x, weight, gain, eps, window, grad, with_bias=needed[3]
            )
        return of_x, of_weight, of_gain, of_bias, None, None


def _differentiable(
    inputs: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
    eps: float,
    window: Window,
    grad: Tensor,
) -> list[Tensor | None]:
    """The gradients as functions of the inputs, for ``create_graph=True``."""
    x, weight, gain, bias = inputs
    assert x is not None
    assert weight is not None
    y = equation(x, weight, gain, bias, eps, window)
    wanted = [t for t, need in zip(inputs, needed, strict=False) if need and t is not None]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
    pairs = zip(inputs, needed, strict=False)
    return [next(found) if need and t is not None else None for t, need in pairs]
