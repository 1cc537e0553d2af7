"""Linear layers of few rows: by the package's kernels, or by PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812

from normfree.kernels import linear as kernels
from normfree.kernels.eager import eager


def linear(
    x: Float[Tensor, "n i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "n o"]:
    r"""The linear layer :math:`y = x W^\top + b`.

    On the CPU in float32, with up to 32 rows, kernels read the weights once in each direction.
    Elsewhere, and under ``torch.compile``, autocast and ``torch.func``, PyTorch computes it.

    Args:
        x: inputs.
        weight: one row for each output.
        bias: 0 if None.

    Example:
        >>> linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([0.5]))
        tensor([[11.5000]])
    """
    if not _fits_kernels(x, weight, bias):
        return F.linear(x, weight, bias)
    tracked = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    if tracked and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        y: Tensor = _Linear.apply(x, weight, bias)
        return y
    return kernels.linear(x, weight, bias)


def _fits_kernels(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels compute this call: few rows of plain tensors, which nothing traces."""
    return (
        eager()
        and x.ndim == 2
        and 0 < len(x) <= kernels.MOST_ROWS
        and x.shape[1:] == weight.shape[1:]
        and kernels.supported(x, weight, bias)
        and not torch.is_autocast_enabled("cpu")
    )


class _Linear(Function):
    """The kernels, with their gradients; their gradients' gradients are those of the equation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return kernels.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        grad = grad.contiguous()
        if torch.is_grad_enabled() or not kernels.supported(grad):
            return grad @ weight, grad.T @ x, of_bias
        return *kernels.linear_gradients(grad, x, weight), of_bias
