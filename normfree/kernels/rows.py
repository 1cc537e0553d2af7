"""Work on the rows of weights on the CPU: a row is read from memory once, and then is in the cache.

A row is an output unit and its fan-in, which is contiguous in memory, whether or not the channels
of filters come last.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from normfree.kernels.eager import plain
from normfree.kernels.library import library
from normfree.kernels.pointers import threads

_NANOSECONDS = 0.7  # of one thread, for a weight


def standardize(
    weight: Float[Tensor, "o *fan"], gain: Float[Tensor, " o"], eps: float
) -> Float[Tensor, "o *fan"] | None:
    """Standardized weights in the memory format of ``weight``; ``None`` if there is no kernel.

    Args:
        weight: float32 rows on the host; contiguous, or filters whose channels come last.
        gain: factor of each row.
        eps: lower bound on a row's sum of squares around the mean.
    """
    kernels = library()
    if kernels is None or not (in_rows(weight) and gain.dtype == torch.float32):
        return None
    result, gain = torch.empty_like(weight), gain.contiguous()
    kernels.normfree_standardize(
        *_pointers(weight, gain, result),
        *_sizes(weight),
        ctypes.c_float(eps),
        _threads(weight.numel()),
    )
    return result


def standardize_backward(
    grad: Float[Tensor, "o *fan"],
    weight: Float[Tensor, "o *fan"],
    gain: Float[Tensor, " o"],
    eps: float,
) -> tuple[Float[Tensor, "o *fan"], Float[Tensor, " o"]] | None:
    """The gradients of ``weight`` and ``gain``; ``None`` if there is no kernel.

    Args:
        grad: gradient of the standardized weight, in any memory format.
        weight: as in :func:`standardize`.
        gain: as in :func:`standardize`.
        eps: as in :func:`standardize`.
    """
    kernels = library()
    if kernels is None or not in_rows(weight) or not grad.dtype == gain.dtype == torch.float32:
        return None
    if not in_rows(weight, grad):
        grad = torch.empty_like(weight).copy_(grad)
    gain = gain.contiguous()
    weight_grad, gain_grad = torch.empty_like(weight), torch.empty_like(gain)
    kernels.normfree_standardize_gradient(
        *_pointers(grad, weight, gain, weight_grad, gain_grad),
        *_sizes(weight),
        ctypes.c_float(eps),
        _threads(weight.numel()),
    )
    return weight_grad, gain_grad


class Weight(NamedTuple):
    """A parameter and all that changes with it; tensors for which :func:`in_rows` holds.

    Attributes:
        param: updated in place.
        grad: its gradient.
        velocity: updated in place; None without momentum.
        average: updated in place; None without an average.
        units: the number of rows that are clipped on their own; 1 if the tensor is one unit.
    """

    param: Tensor
    grad: Tensor
    velocity: Tensor | None
    average: Tensor | None
    units: int

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that there are."""
        return [tensor for tensor in self[:4] if tensor is not None]


def update_(
    weights: Sequence[Weight],
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    clipping: float | None,
    eps: float,
    average_weight: float,
) -> Float[Tensor, " units"]:
    """Clip, decay, accumulate momentum, update and average: one visit to each row.

    Args:
        weights: what is updated; there must be a library.
        lr: learning rate.
        momentum: factor of the velocities.
        nesterov: whether to use Nesterov momentum instead of heavy-ball momentum.
        weight_decay: added to the scaled gradient.
        clipping: λ of adaptive gradient clipping; None disables it.
        eps: lower bound on a unit's norm.
        average_weight: weight of the new parameter in the average.

    Returns:
        The scale of each unit, in the order of the tensors; ones without clipping.
    """
    kernels = library()
    assert kernels is not None
    piece = _piece()
    table, elements, units, pieces = array("q"), 0, 0, 0
    for param, grad, velocity, average, rows in weights:
        size = param.numel()
        if size:
            split = rows == 1 and size > piece and clipping is not None
            table.extend(
                (
                    param.data_ptr(),
                    grad.data_ptr(),
                    0 if velocity is None else velocity.data_ptr(),
                    0 if average is None else average.data_ptr(),
                    elements,
                    size,
                    size // rows,
                    units,
                    pieces if split else -1,
                )
            )
            elements += size
            pieces += -(-size // piece) * split
        units += rows
    scales = torch.ones(units)
    sums = torch.empty(2 * pieces, dtype=torch.float64)
    kernels.normfree_update(
        ctypes.c_void_p(table.buffer_info()[0]),
        ctypes.c_int64(len(table) // 9),
        ctypes.c_int64(pieces > 0),
        ctypes.c_int64(clipping is not None),
        *map(ctypes.c_float, (clipping or 0.0, eps, lr, momentum)),
        ctypes.c_int64(nesterov),
        *map(ctypes.c_float, (weight_decay, average_weight)),
        *_pointers(scales, sums),
        _threads(elements),
    )
    return scales


def in_rows(*tensors: Tensor) -> bool:
    """Whether tensors are float32 on the host, without gaps, in the same order, rows outermost.

    >>> x = torch.zeros(2, 3, 4, 4)
    >>> last = x.to(memory_format=torch.channels_last)
    >>> in_rows(x, x), in_rows(last, last), in_rows(x, last), in_rows(x[:, :2])
    (True, True, False, False)
    """
    if not plain(*tensors):
        return False
    return all(x.is_contiguous() for x in tensors) or (
        tensors[0].ndim == 4
        and all(x.is_contiguous(memory_format=torch.channels_last) for x in tensors)
    )


def _pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    """Addresses of tensors that have been checked, or were made here."""
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


def _sizes(weight: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64]:
    """The number of rows and the fan-in."""
    rows = len(weight)
    return ctypes.c_int64(rows), ctypes.c_int64(weight.numel() // max(rows, 1))


def _threads(elements: int) -> ctypes.c_int64:
    return threads(_NANOSECONDS * elements)


@cache
def _piece() -> int:
    """The number of elements in a piece of a large unit."""
    kernels = library()
    assert kernels is not None
    kernels.normfree_piece.restype = ctypes.c_int64
    return int(kernels.normfree_piece())
