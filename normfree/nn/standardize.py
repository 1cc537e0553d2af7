"""Scaled Weight Standardization as a network applies it: the equation, by a kernel on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from normfree.errors import UserError
from normfree.kernels import operator, rows, triton
from normfree.kernels.eager import transformed
from normfree.nn.functional import standardize_weight, standardize_weight_backward


def standardize(
    weight: Float[Tensor, "o *fan"], gain: Float[Tensor, " o"], eps: float = 1e-4
) -> Float[Tensor, "o *fan"]:
    r""":func:`~normfree.nn.functional.standardize_weight`, by a kernel where that is faster.

    In float32 on the CPU, and on CUDA with Triton, this is the operator
    ``torch.ops.normfree.standardize``, which reads each filter from memory once. Elsewhere it is
    the equation, and so it is under ``torch.compile``, which fuses it.

    Args:
        weight: filters, output units first: (out, in / groups, height, width).
        gain: learnable factor of each output unit.
        eps: lower bound on :math:`N \sigma^2`.

    Returns:
        The standardized filters, with the shape, dtype and memory format of ``weight``.

    Example:
        >>> weight, gain = torch.randn(8, 4, 3, 3), torch.rand(8)
        >>> torch.allclose(standardize(weight, gain), standardize_weight(weight, gain), atol=1e-6)
        True
    """
    if _by_operator(weight, gain):
        return torch.ops.normfree.standardize(weight, gain, eps)
    return standardize_weight(weight, gain, eps)


def _by_operator(weight: Tensor, gain: Tensor) -> bool:
    """Whether the operator is faster, and possible.

    Transforms differentiate and batch equations, but not the operator.
    """
    if torch.compiler.is_compiling() or transformed():
        return False
    devices = ("cpu", "cuda") if triton.available() else ("cpu",)
    return weight.device.type in devices and weight.dtype == gain.dtype == torch.float32


def _check(weight: Tensor, gain: Tensor, eps: float) -> None:
    if weight.ndim < 2 or gain.shape != weight.shape[:1]:
        raise UserError(
            "standardization takes filters (out, in, …) and a gain (out); got "
            f"{tuple(weight.shape)} and {tuple(gain.shape)}"
        )


def _check_backward(grad: Tensor, weight: Tensor, gain: Tensor, eps: float) -> None:
    _check(weight, gain, eps)
    if grad.shape != weight.shape:
        raise UserError(
            f"the gradient of filters has their shape {tuple(weight.shape)}; got "
            f"{tuple(grad.shape)}"
        )


def _same_format(x: Tensor, like: Tensor) -> Tensor:
    """``x`` with the strides of ``like``, as a kernel would return it."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


@operator(
    "standardize(Tensor weight, Tensor gain, float eps) -> Tensor",
    kernel=rows.standardize,
    cuda=triton.standardize,
    result=lambda weight, gain, eps: torch.empty_like(weight),
    shapes=_check,
)
def _standardize(weight: Tensor, gain: Tensor, eps: float) -> Tensor:
    return _same_format(standardize_weight(weight, gain, eps), weight)


@operator(
    "standardize_backward(Tensor grad, Tensor weight, Tensor gain, float eps) -> (Tensor, Tensor)",
    kernel=rows.standardize_backward,
    cuda=triton.standardize_backward,
    result=lambda grad, weight, gain, eps: (torch.empty_like(weight), torch.empty_like(gain)),
    shapes=_check_backward,
)
def _standardize_backward(
    grad: Tensor, weight: Tensor, gain: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    weight_grad, gain_grad = standardize_weight_backward(grad, weight, gain, eps)
    return _same_format(weight_grad, weight), gain_grad


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
    weight, gain, ctx.eps = inputs
    ctx.save_for_backward(weight, gain)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    weight, gain = ctx.saved_tensors
    # The equation can be differentiated again; the operator cannot.
    backward = standardize_weight_backward if torch.is_grad_enabled() else _standardize_backward
    return (*backward(grad, weight, gain, ctx.eps), None)


torch.library.register_autograd("normfree::standardize", _backward, setup_context=_save)
