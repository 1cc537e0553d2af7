"""The order in which an epoch visits its examples: a pure function of (seed, epoch).

The plan of micro-batches asks for the examples at some positions of an epoch. An order may answer
from an array of the whole epoch, or compute the answer from the positions alone, as
:class:`~normfree.data.shard_order.ShardOrder` does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
from jaxtyping import Int

from normfree.random import numpy_generator

_STREAM = 0  # numpy_generator stream for the order of an epoch


class Epoch(Protocol):
    """The examples of an epoch, in order; a NumPy array of indices is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Int[np.ndarray, " n"], /) -> Int[np.ndarray, " n"]: ...


Order: TypeAlias = Callable[[int, int], Epoch]
"""``order(seed, epoch)`` gives the examples of an epoch. It must be picklable and hashable, and
every epoch must have the same length.

An array may repeat examples, as balanced sampling does: each occurrence gets its own random crop.
What computes its answers must visit each example once.
"""


@lru_cache(maxsize=2)  # a step spans at most two epochs, unless its batch exceeds an epoch
def permutation(seed: int, epoch: int, examples: int) -> Int[np.ndarray, " examples"]:
    """Visit each example once, in random order.

    >>> permutation(0, 0, 5), permutation(0, 1, 5)
    (array([...]), array([...]))
    """
    order: Int[np.ndarray, " examples"] = numpy_generator(seed, _STREAM, epoch).permutation(
        examples
    )
    order.flags.writeable = False  # shared through the cache
    return order


def epoch_order(order: Order | None, seed: int, epoch: int, examples: int) -> Epoch:
    """The examples of an epoch; without an order, their :func:`permutation`.

    Raises:
        ValueError: the order's epoch has another length.
    """
    return (
        permutation(seed, epoch, examples)
        if order is None
        else _ordered(order, seed, epoch, examples)
    )


@lru_cache(maxsize=2)
def _ordered(order: Order, seed: int, epoch: int, examples: int) -> Epoch:
    found = order(seed, epoch)
    if len(found) != examples:
        raise ValueError(f"the order of epoch {epoch} has {len(found)} examples, not {examples}")
    return found


@lru_cache(maxsize=2)
def repeats(order: Order, seed: int, epoch: int, examples: int) -> Int[np.ndarray, " n"] | None:
    """How often the example at each position occurred before in the epoch; None if never."""
    found = epoch_order(order, seed, epoch, examples)
    if not isinstance(found, np.ndarray):
        return None
    counts = occurrences(found)
    return counts if counts.any() else None


def occurrences(values: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How often each value occurred before.

    >>> occurrences(np.array([7, 5, 7, 7, 5]))
    array([0, 0, 1, 2, 1])
    """
    by_value = np.argsort(values, kind="stable")
    inside = values[by_value]
    first = np.flatnonzero(np.concatenate([[True], inside[1:] != inside[:-1]])[: len(inside)])
    lengths = np.diff(np.append(first, len(inside)))
    counts = np.empty(len(values), dtype=np.int64)
    counts[by_value] = np.arange(len(values)) - np.repeat(first, lengths)
    return counts
