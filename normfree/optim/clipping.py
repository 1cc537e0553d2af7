"""The kinds of gradient clipping, for any optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from normfree.errors import unknown_name
from normfree.optim.agc import clip_grads_, count_clipped

Clip = Literal["unit", "layer", "global"]


def clip_gradients_(
    groups: Iterable[Mapping[str, Any]],
    clip: Clip = "unit",
    clipping: float = 0.01,
    eps: float = 1e-3,
) -> tuple[Int[Tensor, ""], int]:
    r"""Clip the gradients of groups of parameters in place, before the optimizer's step.

    ============ ==========================================================================
    ``"unit"``   AGC, a norm for each unit (equation 3 of the paper)
    ``"layer"``  AGC, a norm for each parameter
    ``"global"`` :math:`G \to \lambda G / \|G\|` where :math:`\|G\| > \lambda`, all parameters
                 together (equation 2 of the paper)
    ============ ==========================================================================

    Args:
        groups: groups of parameters, such as :func:`param_groups` makes or optimizers have.
        clip: which kind.
        clipping: :math:`\lambda`. To AGC a group's own ``clipping`` comes first, as in
            :func:`clip_grad_agc_`; the global norm is that of all groups.
        eps: floor of a parameter's norm, to AGC.

    Returns:
        How many units were clipped, on the device, so that nothing waits for it; and how many might
        have been: for the global norm one.

    Raises:
        UserError: a kind that is none of these.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2, 2))
        >>> w.grad = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
        >>> clip_gradients_([{"params": [w]}], "global", clipping=1.0)
        (tensor(1), 1)
        >>> w.grad
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
        >>> clip_gradients_([{"params": [w]}], "unit", clipping=0.01)
        (tensor(1), 2)

    Source: section 4 of the paper; the global norm is ``torch.nn.utils.clip_grad_norm_``.
    """
    if clip not in get_args(Clip):
        raise unknown_name("kind of clipping", clip, get_args(Clip))
    if clip == "global":
        parameters = [p for group in groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, clipping)
        return (norm > clipping).sum(), 1
    scales = clip_grads_(groups, clipping, eps, unitwise=clip == "unit")
    return count_clipped(scales), sum(scale.numel() for scale in scales)
