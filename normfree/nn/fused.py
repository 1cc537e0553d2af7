"""Equations of activations, gates and residual sums that visit each feature map once.

On the CPU in float32, kernels compute them and their gradients. Elsewhere, and whenever something
looks into the computation (``torch.compile``, which fuses it on its own, ``torch.func``, modes,
second derivatives), the equation in PyTorch is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import saved_tensors_hooks

from normfree.kernels import maps
from normfree.kernels.eager import eager
from normfree.nn.functional import gated_add as gated_add_equation
from normfree.nn.functional import squeeze_excite_add as squeeze_excite_add_equation

#: The gate (n, c) of a map from its pooled channels (n, c) and any parameters.
Gate = Callable[..., Tensor]


def scaled_activation(
    x: Float[Tensor, "..."], function: Callable[[Tensor], Tensor], scale: float, name: str | None
) -> Float[Tensor, "..."]:
    r"""``scale · f(x)``, of which only ``x`` is kept for the gradient.

    Args:
        x: any tensor.
        function: :math:`f`.
        scale: constant factor.
        name: name of :math:`f` among the kernels; None if it has no name.

    Example:
        >>> scaled_activation(torch.tensor([-1.0, 2.0]), torch.relu, 0.5, "relu")
        tensor([0., 1.])
    """
    if name in maps.ACTIVATIONS and _use_kernels(x):
        return _ScaledActivation.apply(x, function, scale, name)
    return _scaled(function, scale)(x)


def gated_add(
    skip: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], gate: Tensor
) -> Float[Tensor, "n c h w"]:
    """``skip + gate · x``, by a kernel where possible; see :func:`.functional.gated_add`.

    Args:
        skip: the skip path.
        x: the residual branch.
        gate: factor of the branch, which broadcasts to (n, c, 1, 1).

    Example:
        >>> gated_add(torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, 2.0]]]]), torch.tensor(3.0))
        tensor([[[[4., 7.]]]])
    """
    if _use_kernels(skip, x) and skip.shape == x.shape and _is_gate(gate, x):
        return _GatedAdd.apply(skip, x, gate)
    return gated_add_equation(skip, x, gate)


def squeeze_excite_add(
    skip: Float[Tensor, "n c h w"] | None,
    x: Float[Tensor, "n c h w"],
    gate: Gate,
    parameters: Sequence[Tensor],
) -> Float[Tensor, "n c h w"]:
    r"""``skip + x · gate(mean(x), *parameters)``; see :func:`.functional.squeeze_excite_add`.

    The forward pass reads ``x`` for the mean and for the product. The backward pass reads it once,
    and writes its whole gradient at once.

    Args:
        skip: the skip path; 0 if None.
        x: the map that is gated.
        gate: function of the mean over pixels (n, c) and of the parameters.
        parameters: all tensors that the gate is differentiated by, apart from the mean.

    Example:
        >>> x = torch.tensor([[[[1.0, 3.0]]]])
        >>> squeeze_excite_add(None, x, torch.mul, [torch.tensor([[0.5]])])
        tensor([[[[1., 3.]]]])
    """
    maps_ = (x,) if skip is None else (x, skip)
    same = skip is None or skip.shape == x.shape
    if same and x.numel() and _use_kernels(*maps_):
        return _SqueezeExciteAdd.apply(gate, skip, x, *parameters)
    return squeeze_excite_add_equation(skip, x, gate, parameters)


def spatial_mean(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
    """The mean over pixels, whose gradient is never expanded to a map of its own.

    >>> spatial_mean(torch.tensor([[[[1.0, 2.0]]]]))
    tensor([[1.5000]])
    """
    if x.numel() and _use_kernels(x):
        return _SpatialMean.apply(x)
    return x.mean(dim=(2, 3))


# ---- Choice between the kernel and the equation ----


def _use_kernels(*tensors: Tensor) -> bool:
    """Whether kernels may compute on these tensors here."""
    return eager() and all(map(maps.supported, tensors))


def _is_gate(gate: Tensor, x: Tensor) -> bool:
    """Whether a gate is one number, or one for each image or channel."""
    if not maps.supported(gate):
        return False
    return gate.ndim == 0 or (
        gate.ndim == 4
        and gate.shape[2:] == (1, 1)
        and all(size in (1, whole) for size, whole in zip(gate.shape[:2], x.shape[:2], strict=True))
    )


def _differentiated(
    equation: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor
) -> list[Tensor | None]:
    """The gradients of an equation by its inputs, which can be differentiated again if needed."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        if again:  # views, because one input may depend on another
            inputs = [x.view_as(x) for x in inputs]
        else:
            inputs = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
        y = equation(*inputs)
    wanted = [x for x in inputs if x.requires_grad]
    grads = iter(torch.autograd.grad(y, wanted, grad, create_graph=again, allow_unused=True))
    return [next(grads) if x.requires_grad else None for x in inputs]


def _fall_back(grad: Tensor) -> bool:
    """Whether the gradient is to be computed by the equation."""
    return torch.is_grad_enabled() or not _use_kernels(maps.without_gaps(grad))


# ---- Functions with their gradients ----


def _scaled(function: Callable[[Tensor], Tensor], scale: float) -> Callable[[Tensor], Tensor]:
    return function if scale == 1 else lambda x: function(x) * scale


class _ScaledActivation(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any, scale: float, name: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.given = function, scale, name
        return maps.activate(name, x, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (function, scale, name) = ctx.saved_tensors, ctx.given
        if _fall_back(grad):
            return (*_differentiated(_scaled(function, scale), (x,), grad), None, None, None)
        return maps.activate(name, x, scale, grad), None, None, None


class _GatedAdd(Function):
    @staticmethod
    def forward(ctx: Any, skip: Tensor, x: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(x, gate)
        return maps.gate(x, _of_channels(gate, x), skip)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gate = ctx.saved_tensors
        if _fall_back(grad):
            return (grad, *_differentiated(torch.mul, (x, gate), grad))
        x_grad, gate_grad = maps.gate_gradients(grad, x, _of_channels(gate, x))
        return grad, x_grad, gate_grad[:, :, None, None].sum_to_size(gate.shape)


def _of_channels(gate: Tensor, x: Tensor) -> Float[Tensor, "n c"]:
    return gate.expand(*x.shape[:2], 1, 1)[:, :, 0, 0]


def _kept(x: Tensor) -> Tensor:
    """What the gate's graph keeps: an output that kept its history would keep itself, for ever."""
    return x.detach()


def _same(x: Tensor) -> Tensor:
    return x


class _SqueezeExciteAdd(Function):
    """The gate is differentiated by a graph of its own, from detached inputs."""

    @staticmethod
    def forward(ctx: Any, gate: Gate, skip: Tensor | None, x: Tensor, *given: Tensor) -> Tensor:
        ctx.save_for_backward(x, *given)
        ctx.gate = gate
        pooled = maps.channel_sums(x) / x[0, 0].numel()
        inputs = [pooled.requires_grad_()]
        inputs += [t.detach().requires_grad_(t.requires_grad) for t in given]
        with torch.set_grad_enabled(any(ctx.needs_input_grad)), saved_tensors_hooks(_kept, _same):
            factor = gate(*inputs)  # small: activation checkpointing need not compute it again
        ctx.inner = (factor, inputs) if any(ctx.needs_input_grad) else None
        return maps.gate(x, factor.detach(), skip)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *given = ctx.saved_tensors
        skip_grad = grad if ctx.needs_input_grad[1] else None
        if _fall_back(grad):
            equation = lambda x, *given: squeeze_excite_add_equation(None, x, ctx.gate, given)  # noqa: E731
            return (None, skip_grad, *_differentiated(equation, (x, *given), grad))
        factor, inputs = ctx.inner
        wanted = [t for t in inputs if t.requires_grad]
        factor_grad = maps.channel_sums(maps.like(x, grad), x)
        grads = torch.autograd.grad(factor, wanted, factor_grad, retain_graph=True)
        found = iter(grads)
        pooled_grad, *rest = (next(found) if t.requires_grad else None for t in inputs)
        shift = pooled_grad / x[0, 0].numel()
        return None, skip_grad, maps.gate(maps.like(x, grad), factor.detach(), None, shift), *rest


class _SpatialMean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return maps.channel_sums(x) / x[0, 0].numel()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        pixels = ctx.shape[2] * ctx.shape[3]
        return (grad / pixels)[:, :, None, None].expand(ctx.shape)
