"""Launch the update of many tensors at once: their addresses go to the GPU as a table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from normfree.kernels.rows import Weight
from normfree.kernels.triton.launch import block_of, launchable

#: Elements that a program holds at a time.
BLOCK = 1024
#: Elements of the longest unit: a unit is the work of one program.
LONGEST = 1 << 16


def updatable(weight: Weight) -> bool:
    """Whether :func:`update_` can update a parameter: float32 on a GPU, of units not too long."""
    short = weight.param.numel() <= LONGEST * weight.units
    return short and launchable(*weight.tensors)


def update_(
    weights: Sequence[Weight],
    *,
    lr: float | Float[Tensor, ""],
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    clipping: float | None,
    eps: float,
    average_weight: float | Float[Tensor, ""],
) -> Float[Tensor, " units"]:
    """Clip, decay, accumulate momentum, update and average: one visit to each unit.

    Nothing waits for the GPU. Tensors that are aligned to 16 bytes, unit by unit, share a launch,
    and so do the others.

    Args:
        weights: what is updated, on one GPU; see :func:`updatable`.
        lr: learning rate; a float, or a float32 scalar on the GPU.
        momentum: factor of the velocities.
        nesterov: whether to use Nesterov momentum instead of heavy-ball momentum.
        weight_decay: added to the scaled gradient.
        clipping: λ of adaptive gradient clipping; None disables it.
        eps: lower bound on a unit's norm.
        average_weight: weight of the new parameter in the average, like ``lr``.

    Returns:
        The scale of each unit, in the order of the tensors; ones without clipping.
    """
    units = sum(weight.units for weight in weights)
    device = weights[0].param.device if weights else torch.device("cpu")
    scales = torch.ones(units, device=device)
    launches: dict[tuple[bool, bool, bool], list[tuple[Weight, int]]] = {}
    first = 0
    for weight in weights:
        if weight.param.numel():
            kind = (_aligned(weight), weight.velocity is not None, weight.average is not None)
            launches.setdefault(kind, []).append((weight, first))
        first += weight.units
    if not launches:
        return scales
    from normfree.kernels.triton import jit_update

    for (aligned, has_velocity, has_average), some in launches.items():
        counts = tuple(weight.units for weight, _ in some)
        longest = max(weight.param.numel() // weight.units for weight, _ in some)
        jit_update.update[(sum(counts),)](
            *(_table(some, device), _owners(counts, device), scales, lr, average_weight),
            *(momentum, weight_decay, clipping or 0.0, eps),
            clips=clipping is not None,
            nesterov=nesterov,
            has_velocity=has_velocity,
            has_average=has_average,
            lr_on_device=isinstance(lr, Tensor),
            average_weight_on_device=isinstance(average_weight, Tensor),
            aligned=aligned,
            block=block_of(longest, BLOCK),
        )
    return scales


def _aligned(weight: Weight) -> bool:
    """Whether every unit of every tensor begins and ends at a multiple of 16 bytes."""
    addresses = [x.data_ptr() for x in weight.tensors]
    size = weight.param.numel() // weight.units
    return size % 4 == 0 and all(address % 16 == 0 for address in addresses)


def _table(some: Sequence[tuple[Weight, int]], device: torch.device) -> Int[Tensor, "tensors 7"]:
    """Addresses, size of a unit, first program, and first scale of each tensor."""
    rows, program = [], 0
    for weight, scale in some:
        addresses = [0 if x is None else x.data_ptr() for x in weight[:4]]
        rows.append([*addresses, weight.param.numel() // weight.units, program, scale])
        program += weight.units
    return _upload(torch.tensor(rows, dtype=torch.int64), device)


@lru_cache(maxsize=16)
def _owners(counts: tuple[int, ...], device: torch.device) -> Int[Tensor, " programs"]:
    """The tensor that each program works on."""
    numbers = torch.arange(len(counts), dtype=torch.int32)
    return _upload(numbers.repeat_interleave(torch.tensor(counts)), device)


def _upload(tensor: Tensor, device: torch.device) -> Tensor:
    """To the GPU, without waiting for it."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
