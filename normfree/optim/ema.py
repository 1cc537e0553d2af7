"""Exponential moving average of a model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from normfree.optim.functional import ema_decay
from normfree.optim.settings import FRACTION


class EMA:
    r"""Exponential moving average of a model's parameters, with decay warm-up.

    .. math:: \bar w \leftarrow d_t\,\bar w + (1 - d_t)\,w, \qquad
        d_t = \min\left(d, \frac{1 + t}{10 + t}\right)

    Args:
        model: the model being trained; the average is initialized as a copy of it.
        decay: the cap :math:`d`, at least 0 and below 1. With 0, averaging is off: ``model`` shares
            memory with the trained weights, and updates copy nothing.

    Attributes:
        model: the averaged copy, in evaluation mode and without gradients. Floating-point buffers,
            such as batch statistics, are also averaged; integer buffers are copied.

    Raises:
        UserError: ``decay`` is out of range.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> ema = EMA(model, decay=0.99999)
        >>> _ = nn.init.constant_(model.weight, 1.0), nn.init.constant_(ema.model.weight, 0.0)
        >>> ema.update(step=0)  # after the optimizer's step
        >>> ema.model.weight.item()  # 0.1 · 0 + 0.9 · 1
        0.8999999761581421

    Source: appendix A.1 of the paper.

    Differs from: ``torch.optim.swa_utils.AveragedModel``, and timm's ``ModelEmaV3`` called without
    a step; neither warms up the decay.
    """

    def __init__(self, model: nn.Module, decay: float = 0.99999) -> None:
        FRACTION.check("decay", decay)
        self.source = model
        self.decay = decay
        shared = _aliases(model) if decay == 0 else {}
        self.model = copy.deepcopy(model, shared).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average; call it after the optimizer's step.

        Args:
            step: number of the optimizer's step, from zero.
        """
        averages: list[Tensor] = list(self.model.parameters())
        parameters: list[Tensor] = list(self.source.parameters())
        if self.decay == 0:
            averages += self.model.buffers()
            for average, own in zip(averages, [*parameters, *self.source.buffers()], strict=True):
                average.data = own.data  # a new tensor if the model has been moved
            return
        weight = 1 - ema_decay(step, self.decay)
        torch._foreach_lerp_(averages, parameters, weight)
        for average, buffer in zip(self.model.buffers(), self.source.buffers(), strict=True):
            if average.is_floating_point():
                average.lerp_(buffer, weight)
            else:
                average.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """The averaged parameters and buffers by name."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load averaged parameters and buffers by name."""
        self.model.load_state_dict(state)


def _aliases(model: nn.Module) -> dict[int, Any]:
    """A ``deepcopy`` memo that maps each parameter and buffer to an alias of its memory."""
    parameters = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return {**parameters, **{id(buffer): buffer for buffer in model.buffers()}}
