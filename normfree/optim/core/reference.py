"""The reference backend: the equations, one tensor at a time. Others are tested against it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from normfree.optim.core.lists import Lists, Settings, in_parts
from normfree.optim.functional import clip_scale, nesterov_momentum


def agc(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    *,
    clipping: float,
    eps: float,
    unitwise: bool,
) -> list[Tensor]:
    """See :func:`normfree.optim.core.agc`."""
    return [
        clip_scale(g, w, clipping, eps, unitwise=unitwise)
        for w, g in zip(params, grads, strict=True)
    ]


def sgd_update(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    velocities: Sequence[Tensor],
    *,
    scales: Sequence[Tensor] | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """See :func:`normfree.optim.core.sgd_update`."""
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        if scales is not None:
            g = g * scales[i]
        if weight_decay:
            g = g + weight_decay * w
        if momentum:
            direction, velocity = nesterov_momentum(g, velocities[i], momentum)
            velocities[i].copy_(velocity)
            g = direction if nesterov else velocity
        w.sub_(g * lr)


def step(lists: Lists, settings: Settings) -> list[Tensor] | None:
    """See :class:`normfree.optim.core.Backend`."""
    return in_parts(agc, sgd_update, lists, settings)
