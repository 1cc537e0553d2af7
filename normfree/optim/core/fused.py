"""The fused backend: a kernel that reads each unit from memory once, in float32: C or Triton.

While a unit is in the cache, its norms are computed, its gradient is clipped and decayed, and its
momentum, its parameters and their average are updated. Other tensors are left to the foreach
backend. Results differ from the reference by the rounding of norms, whose sums have another order.
On the CPU they depend neither on the number of threads nor on the instruction set. On CUDA the
kernel is Triton's, if it is installed, and nothing waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from normfree.kernels import Weight, available, in_rows, triton, update_
from normfree.optim.core import foreach
from normfree.optim.core.foreach import agc, sgd_update
from normfree.optim.core.lists import Lists, Settings
from normfree.optim.functional import has_units

__all__ = ["agc", "sgd_update", "step"]


class Rows(NamedTuple):
    """The kernels of a device.

    Attributes:
        supported: whether they can update a parameter, given all that changes with it.
        update_: see :func:`normfree.kernels.update_`.
    """

    supported: Callable[[Weight], bool]
    update_: Callable[..., Tensor]


def step(lists: Lists, settings: Settings) -> list[Tensor] | None:
    """See :class:`normfree.optim.core.Backend`."""
    rows = _rows(lists)
    if torch.compiler.is_compiling() or rows is None:
        return foreach.step(lists, settings)
    places: list[int] = []
    others: list[int] = []
    weights: list[Weight] = []
    for place, tensors in enumerate(lists.each()):
        units = _units(tensors[0].shape, settings.unitwise)
        weight = Weight(*tensors, units=units[0] if units else 1)
        if rows.supported(weight):
            weights.append(weight)
            places.append(place)
        else:
            others.append(place)
    found = dict(zip(places, _update(rows, weights, settings), strict=True)) if weights else {}
    if others:
        rest = foreach.step(lists.at(others), settings)
        found |= dict(zip(others, rest or [], strict=rest is not None))
    if settings.clipping is None:
        return None
    return [found[place] for place in range(len(lists.params))]


def _rows(lists: Lists) -> Rows | None:
    """The kernels of the lists' device; None without any."""
    device = lists.params[0].device.type if lists.params else "cpu"
    if device == "cuda":
        return Rows(triton.updatable, triton.update_) if triton.available() else None
    return Rows(_in_rows, _update_on_host) if available() else None


def _in_rows(weight: Weight) -> bool:
    return in_rows(*weight.tensors)


def _update_on_host(weights: Sequence[Weight], *, lr: float, **settings: Any) -> Tensor:
    return update_(weights, lr=float(lr), **settings)


def _update(rows: Rows, weights: Sequence[Weight], settings: Settings) -> list[Tensor]:
    """Update the weights; returns the scales of each."""
    scales = rows.update_(
        weights,
        lr=settings.lr,
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
