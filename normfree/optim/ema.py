"""The moving average of a model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from normfree.optim.functional import ema_decay


class EMA:
    r"""Exponential moving average of a model's parameters, with a decay that warms up.

    .. math:: \bar w \leftarrow d_t\,\bar w + (1 - d_t)\,w, \qquad
        d_t = \min\left(d, \frac{1 + t}{10 + t}\right)

    Args:
        model: the model that is trained; the average starts as its copy.
        decay: the cap :math:`d`.

    Attributes:
        model: the averaged copy, in evaluation mode and without gradients. Buffers of
            numbers, such as batch statistics, are averaged too; counters are copied.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> ema = EMA(model, decay=0.99999)
        >>> _ = nn.init.constant_(model.weight, 1.0), nn.init.constant_(ema.model.weight, 0.0)
        >>> ema.update(step=0)  # after the optimizer's step
        >>> ema.model.weight.item()  # 0.1 · 0 + 0.9 · 1
        0.8999999761581421

    Source: section 6.1 of the paper; the warm-up is the authors' code.

    Differs from: ``torch.optim.swa_utils.AveragedModel`` and timm's ``ModelEmaV3`` without a step,
    which do not warm up.
    """

    def __init__(self, model: nn.Module, decay: float = 0.99999) -> None:
        self.source = model
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the model, after the optimizer's step.

        Args:
            step: number of the optimizer's step, from zero.
        """
        weight = 1 - ema_decay(step, self.decay)
        averages: list[Tensor] = list(self.model.parameters())
        parameters: list[Tensor] = list(self.source.parameters())
        torch._foreach_lerp_(averages, parameters, weight)
        for average, buffer in zip(self.model.buffers(), self.source.buffers(), strict=True):
            if average.is_floating_point():
                average.lerp_(buffer, weight)
            else:
                average.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """The averaged values by name."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take averaged values by name."""
        self.model.load_state_dict(state)
