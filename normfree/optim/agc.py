"""Adaptive gradient clipping for any optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from normfree.optim.functional import clip_scale


def clip_grad_agc_(
    parameters: Tensor | Iterable[Tensor] | Iterable[Mapping[str, Any]],
    clipping: float = 0.01,
    eps: float = 1e-3,
    *,
    unitwise: bool = True,
) -> Int[Tensor, ""]:
    """Clip the gradients of parameters in place, unit by unit.

    Call it once per optimizer step: after the last micro-batch's backward, after gradients are
    averaged over ranks and after ``scaler.unscale_``, before ``optimizer.step``.

    Args:
        parameters: a parameter, several, or groups such as :func:`param_groups` makes; a group's
            own ``clipping`` (None: leave it alone) comes before the argument. Its ``eps`` does not:
            that is another optimizer's, and Adam's 1e-8 would hold every zero parameter at zero.
        clipping: λ of what brings none.
        eps: floor of a parameter's norm.
        unitwise: a norm for each unit; else every parameter is one unit.

    Returns:
        How many units were clipped; stays on the device, so nothing waits for it.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2, 3))
        >>> w.grad = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.001]])
        >>> clip_grad_agc_(w, clipping=0.01)
        tensor(1)
        >>> w.grad
        tensor([[0.0100, 0.0100, 0.0100],
                [0.0000, 0.0000, 0.0010]])

    Source: equation 3 of the paper.
    """
    return count_clipped(clip_grads_(parameters, clipping, eps, unitwise=unitwise))


@torch.no_grad()
def clip_grads_(
    parameters: Tensor | Iterable[Tensor] | Iterable[Mapping[str, Any]],
    clipping: float,
    eps: float,
    *,
    unitwise: bool,
) -> list[Float[Tensor, "..."]]:
    """What :func:`clip_grad_agc_` does; returns the factors of the units, by parameter."""
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    scales: list[Tensor] = []
    for entry in parameters:
        group: Mapping[str, Any] = {"params": [entry]} if isinstance(entry, Tensor) else entry
        threshold = group.get("clipping", clipping)
        if threshold is None:
            continue
        for parameter in group["params"]:
            if parameter.grad is not None:
                scale = clip_scale(parameter.grad, parameter, threshold, eps, unitwise=unitwise)
                parameter.grad.mul_(scale)
                scales.append(scale)
    return scales


def count_clipped(scales: Sequence[Float[Tensor, "..."]]) -> Int[Tensor, ""]:
    """How many units have a factor below one, without waiting for the device.

    >>> count_clipped([torch.tensor(0.5), torch.tensor([[1.0], [0.1]])])
    tensor(2)
    """
    if not scales:
        return torch.tensor(0)
    return (torch.cat([scale.flatten() for scale in scales]) < 1).sum()
