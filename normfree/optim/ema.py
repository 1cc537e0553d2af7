"""Exponential moving average of a model."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from normfree.optim.functional import ema_decay
from normfree.optim.settings import FRACTION
from normfree.optim.shards import local


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

    def update(self, step: int) -> None:
        """Update the average; call it after the optimizer's step.

        Args:
            step: number of the optimizer's step, from zero.
        """
        self.begin(step).finish()

    def begin(self, step: int) -> Averaging:
        """An update that an optimizer does in part, as in :meth:`AGCSGD.step_and_average`.

        Args:
            step: number of the optimizer's step, from zero.
        """
        return Averaging(self, step)

    def state_dict(self) -> dict[str, Any]:
        """The averaged parameters and buffers by name."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load averaged parameters and buffers by name."""
        self.model.load_state_dict(state)


class Averaging:
    """An update of an average, of which an optimizer can do a part while it has the parameters.

    Args:
        ema: the average.
        step: number of the optimizer's step, from zero.

    Attributes:
        weight: weight of the new parameters.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> averaging = EMA(model).begin(step=0)
        >>> bias, other = averaging.take([model.bias, torch.zeros(1)])
        >>> _ = bias.lerp_(model.bias.detach(), averaging.weight)  # what an optimizer does
        >>> other is None
        True
        >>> averaging.finish()  # the weight
    """

    def __init__(self, ema: EMA, step: int) -> None:
        self.weight = 1 - ema_decay(step, ema.decay)
        self._ema = ema
        self._left: dict[Tensor, Tensor] = {}
        if ema.decay > 0:
            pairs = zip(ema.source.parameters(), ema.model.parameters(), strict=True)
            self._left.update(pairs)

    def take(self, params: Iterable[Tensor]) -> list[Tensor | None]:
        """The averages of parameters, which the caller updates; None for one without.

        Of sharded parameters, the result has the rows of this rank.
        """
        taken = [self._left.pop(param, None) for param in params]
        return [None if average is None else local(average) for average in taken]

    @torch.no_grad()
    def finish(self) -> None:
        """Update what nobody took, and the buffers."""
        source, average = self._ema.source, self._ema.model
        if self._ema.decay == 0:
            _share_memory(average, source)
            return
        if self._left:
            averages, params = (list(map(local, x)) for x in (self._left.values(), self._left))
            torch._foreach_lerp_(averages, params, self.weight)
            self._left.clear()
        for averaged, buffer in zip(average.buffers(), source.buffers(), strict=True):
            if averaged.is_floating_point():
                averaged.lerp_(buffer, self.weight)
            else:
                averaged.copy_(buffer)


def _share_memory(average: nn.Module, source: nn.Module) -> None:
    """Point to the memory of the model, which is another once it has been moved."""
    for kind in ("parameters", "buffers"):
        for averaged, own in zip(getattr(average, kind)(), getattr(source, kind)(), strict=True):
            averaged.data = own.data


def _aliases(model: nn.Module) -> dict[int, Any]:
    """A ``deepcopy`` memo that maps each parameter and buffer to an alias of its memory."""
    parameters = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return {**parameters, **{id(buffer): buffer for buffer in model.buffers()}}
