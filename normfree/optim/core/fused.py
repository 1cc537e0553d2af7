"""The fused backend: a C kernel that reads each unit from memory once, on the CPU in float32.

While a unit is in the cache, its norms are computed, its gradient is clipped and decayed, and its
momentum, its parameters and their average are updated. Other tensors are left to the foreach
backend. Results differ from the reference by the rounding of norms, whose sums have another order.
They depend neither on the number of threads nor on the instruction set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from normfree import kernels
from normfree.optim.core import foreach
from normfree.optim.core.foreach import agc, sgd_update
from normfree.optim.core.lists import Lists, Settings
from normfree.optim.functional import has_units

__all__ = ["agc", "sgd_update", "step"]


def step(lists: Lists, settings: Settings) -> list[Tensor] | None:
    """See :class:`normfree.optim.core.Backend`."""
    if torch.compiler.is_compiling() or not kernels.available():
        return foreach.step(lists, settings)
    places: list[int] = []
    others: list[int] = []
    weights: list[kernels.Weight] = []
    for place, tensors in enumerate(lists.each()):
        if kernels.in_rows(*(x for x in tensors if x is not None)):
            units = _units(tensors[0].shape, settings.unitwise)
            weights.append(kernels.Weight(*tensors, units=units[0] if units else 1))
            places.append(place)
        else:
            others.append(place)
    found = dict(zip(places, _update(weights, settings), strict=True)) if weights else {}
    if others:
        rest = foreach.step(lists.at(others), settings)
        found |= dict(zip(others, rest or [], strict=rest is not None))
    if settings.clipping is None:
        return None
    return [found[place] for place in range(len(lists.params))]


def _update(weights: Sequence[kernels.Weight], settings: Settings) -> list[Tensor]:
    """Update the weights; returns the scales of each."""
    scales = kernels.update_(
        weights,
        lr=float(settings.lr),
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        clipping=settings.clipping,
        eps=settings.eps,
        average_weight=settings.average_weight,
    )
    changed = (tensor for w in weights for tensor in (w.param, w.velocity, w.average))
    increment_version([tensor for tensor in changed if tensor is not None])
    parts = scales.split([weight.units for weight in weights])
    return [
        part.view(_units(weight.param.shape, settings.unitwise))
        for part, weight in zip(parts, weights, strict=True)
    ]


@lru_cache(maxsize=1 << 14)
def _units(shape: torch.Size, unitwise: bool) -> tuple[int, ...]:
    """The shape of a parameter's scales.

    >>> _units(torch.Size([8, 3, 3, 3]), True), _units(torch.Size([8]), True)
    ((8, 1, 1, 1), ())
    """
    return (shape[0], *[1] * (len(shape) - 1)) if unitwise and has_units(shape) else ()
