"""What a step works on, and its settings; and a step made of its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor


class Settings(NamedTuple):
    """The settings of a step; see :class:`~normfree.optim.AGCSGD`.

    Attributes:
        lr: learning rate, a float or a scalar tensor.
        momentum: factor of the velocities.
        nesterov: whether to use Nesterov momentum instead of heavy-ball momentum.
        weight_decay: added to the clipped gradient.
        clipping: λ; None disables clipping.
        eps: lower bound on a parameter's norm.
        unitwise: whether there is one norm per unit; else one per parameter.
        average_weight: weight of the new parameters in their averages.
    """

    lr: float
    momentum: float
    nesterov: bool
    weight_decay: float
    clipping: float | None
    eps: float
    unitwise: bool
    average_weight: float = 0.0


class Lists(NamedTuple):
    """Parameters and all that changes with them, of one device and dtype.

    Attributes:
        params: updated in place.
        grads: their gradients, not modified.
        velocities: updated in place; empty without momentum.
        averages: updated in place after the parameters. None for a parameter without an average;
            empty if none has one.
    """

    params: Sequence[Tensor]
    grads: Sequence[Tensor]
    velocities: Sequence[Tensor] = ()
    averages: Sequence[Tensor | None] = ()

    def each(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
        """One parameter at a time, with its gradient, velocity and average."""
        some = zip(self.params, self.grads, strict=True)
        for (param, grad), velocity, average in zip(
            some, self.velocities or repeat(None), self.averages or repeat(None), strict=False
        ):
            yield param, grad, velocity, average

    def at(self, places: Sequence[int]) -> Lists:
        """The lists without all but some places."""
        return Lists(
            [self.params[place] for place in places],
            [self.grads[place] for place in places],
            [self.velocities[place] for place in places if self.velocities],
            [self.averages[place] for place in places if self.averages],
        )


def in_parts(
    agc: Callable[..., list[Tensor]],
    sgd_update: Callable[..., None],
    lists: Lists,
    settings: Settings,
) -> list[Tensor] | None:
    """A step of three passes over the lists: the scales, the update, the average."""
    params, grads, velocities, averages = lists
    scales = None
    if settings.clipping is not None:
        scales = agc(
            params,
            grads,
            clipping=settings.clipping,
            eps=settings.eps,
            unitwise=settings.unitwise,
        )
    sgd_update(
        params,
        grads,
        velocities,
        scales=scales,
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )
    pairs = [(a, w) for a, w in zip(averages, params, strict=False) if a is not None]
    if pairs:
        averaged, updated = map(list, zip(*pairs, strict=True))
        torch._foreach_lerp_(averaged, updated, settings.average_weight)
    return scales
