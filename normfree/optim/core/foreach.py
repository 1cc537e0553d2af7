"""The foreach backend: few operations for many tensors, bit-identical to the reference.

A network has many small tensors, where calling an operation costs more than computing it, and some
large ones, which are evicted from the CPU cache between operations. Small tensors of the same shape
are therefore stacked, and on the CPU lists are processed in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from normfree.optim.core import reference
from normfree.optim.core.lists import Lists, Settings, in_parts
from normfree.optim.functional import has_units, scale_from_norms, unitwise_norm

#: Tensors with at most this many elements are stacked.
SMALL = 1 << 13
#: Elements per chunk on the CPU; tuned by measurement, with a wide optimum.
CHUNK = 1 << 18

#: Positions in a list of the tensors that are processed together: one large tensor, or several
#: small ones of the same shape.
Group = list[int]


def agc(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    *,
    clipping: float,
    eps: float,
    unitwise: bool,
) -> list[Tensor]:
    """See :func:`normfree.optim.core.agc`; the scales of all units are computed together."""
    if _is_half(params):
        return reference.agc(params, grads, clipping=clipping, eps=eps, unitwise=unitwise)
    if not params:
        return []
    groups = _groups(params, grads)
    norms, grad_norms = (
        [_norms(tensors, group, unitwise) for group in groups] for tensors in (params, grads)
    )
    scale = scale_from_norms(torch.cat(grad_norms), torch.cat(norms), clipping, eps)
    scales: list[Tensor] = [scale] * len(params)
    for group, part in zip(groups, scale.split([n.numel() for n in norms]), strict=True):
        shape = params[group[0]].shape
        units = (shape[0], *[1] * (len(shape) - 1)) if unitwise and has_units(shape) else ()
        alone = len(group) == 1
        parts = [part.view(units)] if alone else part.view(len(group), *units).unbind()
        for place, one in zip(group, parts, strict=True):
            scales[place] = one
    return scales


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
    """See :func:`normfree.optim.core.sgd_update`; the code follows the equation line by line."""
    if _is_half(params):
        settings: dict[str, Any] = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        settings |= {"scales": scales, "weight_decay": weight_decay}
        reference.sgd_update(params, grads, velocities, **settings)
        return
    for groups in _chunks(params):
        w = _stacks(params, groups)
        g: list[Tensor] | tuple[Tensor, ...] = _stacks(grads, groups)
        v = _stacks(velocities, groups) if momentum else []
        if scales is not None:
            g = torch._foreach_mul(g, _scale_stacks(scales, groups, w))
        if weight_decay:
            g = _plus_(torch._foreach_mul(w, weight_decay), g)
        if momentum:
            torch._foreach_mul_(v, momentum)
            torch._foreach_add_(v, g)
            g = _plus_(torch._foreach_mul(v, momentum), g) if nesterov else v
        torch._foreach_sub_(w, torch._foreach_mul(g, lr))
        _unstack_(params, groups, w)
        if momentum:
            _unstack_(velocities, groups, v)


def step(lists: Lists, settings: Settings) -> list[Tensor] | None:
    """See :class:`normfree.optim.core.Backend`."""
    return in_parts(agc, sgd_update, lists, settings)


def _plus_(new: tuple[Tensor, ...], others: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Add in place to the first list: on the CPU, allocation costs more than the addition."""
    torch._foreach_add_(new, list(others))
    return new


def _is_half(params: Sequence[Tensor]) -> bool:
    """Whether a list is in half precision and must use the reference backend.

    PyTorch rounds λ, μ and ω to the dtype of a scalar tensor, but not to that of a stack. In half
    precision this changes results, and whether units are clipped.
    """
    return any(param.dtype in (torch.float16, torch.bfloat16) for param in params[:1])


def _groups(*lists: Sequence[Tensor]) -> list[Group]:
    """Group positions by shape; a large tensor forms its own group.

    Stacking preserves the bits of a norm only for contiguous tensors.
    """
    groups: dict[object, Group] = {}
    for place, tensors in enumerate(zip(*lists, strict=True)):
        first = tensors[0]
        small = first.numel() <= SMALL and all(tensor.is_contiguous() for tensor in tensors)
        groups.setdefault(first.shape if small else place, []).append(place)
    return list(groups.values())


def _chunks(params: Sequence[Tensor]) -> Iterator[list[Group]]:
    """Split the groups into chunks that fit the CPU cache; on an accelerator, into one chunk."""
    groups = _groups(params)
    if not groups:
        return
    if params[0].device.type != "cpu":
        yield groups
        return
    chunk: list[Group] = []
    elements = 0
    for group in groups:
        size = len(group) * params[group[0]].numel()
        if chunk and elements + size > CHUNK:
            yield chunk
            chunk, elements = [], 0
        chunk.append(group)
        elements += size
    yield chunk


def _stacks(tensors: Sequence[Tensor], groups: Sequence[Group]) -> list[Tensor]:
    """One tensor per group: the tensor itself if it is alone, else a stack."""
    return [_stack(tensors, group) for group in groups]


def _stack(tensors: Sequence[Tensor], group: Group) -> Tensor:
    return tensors[group[0]] if len(group) == 1 else torch.stack([tensors[i] for i in group])


def _unstack_(tensors: Sequence[Tensor], groups: Sequence[Group], stacks: Sequence[Tensor]) -> None:
    """Copy stacks back to their tensors; a tensor that was alone is already updated."""
    places = [place for group in groups if len(group) > 1 for place in group]
    values = [
        one
        for group, stack in zip(groups, stacks, strict=True)
        if len(group) > 1
        for one in stack.unbind()
    ]
    if places:
        torch._foreach_copy_([tensors[place] for place in places], values)


def _scale_stacks(
    scales: Sequence[Tensor], groups: Sequence[Group], like: Sequence[Tensor]
) -> list[Tensor]:
    """The scales of each group, shaped to broadcast over its stack."""
    stacks = _stacks(scales, groups)
    return [
        s if len(group) == 1 or s.ndim == x.ndim else s.view(len(group), *[1] * (x.ndim - 1))
        for s, group, x in zip(stacks, groups, like, strict=True)
    ]


def _norms(tensors: Sequence[Tensor], group: Group, unitwise: bool) -> Tensor:
    """The norms of all units in a group, as a vector."""
    first, k = tensors[group[0]], len(group)
    if k == 1:
        norm = unitwise_norm if unitwise else torch.linalg.vector_norm
        return norm(first).flatten()
    rows = k * first.shape[0] if unitwise and has_units(first.shape) else k
    elements = k * first.numel() // max(rows, 1)
    return torch.linalg.vector_norm(_stack(tensors, group).view(rows, elements), dim=1)
