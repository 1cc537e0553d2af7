"""The order of the examples: one endless stream, read a batch at a time.

Position ``p`` of the stream lies in epoch ``p // N``; that epoch visits the ``N`` examples in the
order of its own permutation. Batches run on across the end of an epoch, so none is short and
``N / batch_size`` need not be whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from normfree.errors import UserError
from normfree.random import numpy_generator

_STREAM = 0  # of numpy_generator: the order of an epoch


class Places(NamedTuple):
    """Which examples a batch holds, and in which epoch each of them is."""

    epochs: Int[np.ndarray, " n"]
    indices: Int[np.ndarray, " n"]


@lru_cache(maxsize=2)  # a batch reads from two epochs at most, unless it is larger than one
def permutation(seed: int, epoch: int, examples: int) -> Int[np.ndarray, " examples"]:
    """The order in which an epoch visits its examples.

    >>> permutation(0, 0, 5), permutation(0, 1, 5)
    (array([...]), array([...]))
    """
    order: Int[np.ndarray, " examples"] = numpy_generator(seed, _STREAM, epoch).permutation(
        examples
    )
    order.flags.writeable = False  # shared through the cache
    return order


@dataclass(frozen=True, kw_only=True)
class Order:
    """The stream of training examples, as one rank of a run sees it.

    Args:
        seed: the run's seed, not negative.
        examples: how many examples an epoch has.
        batch_size: examples of one step over all ranks.
        rank: this process.
        world: number of processes; each takes its own part of every batch.

    Raises:
        UserError: if a batch cannot be shared evenly, or a number is out of range.

    >>> order = Order(seed=0, examples=10, batch_size=4)
    >>> order.batch(2).epochs
    array([0, 0, 1, 1])
    >>> order.total_steps(epochs=3.0)
    7

    Differs from: ``torch.utils.data.DistributedSampler``, which pads or drops examples at the end
        of an epoch; here every example is visited exactly once an epoch.
    """

    seed: int
    examples: int
    batch_size: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise UserError("there are no examples to train on: is the data source empty?")
        if self.batch_size < 1 or self.batch_size % self.world:
            raise UserError(
                f"a batch of {self.batch_size} cannot be shared evenly by {self.world} processes: "
                f"choose a multiple of {self.world}"
            )
        if self.seed < 0:
            raise UserError(f"the seed is {self.seed}: choose one that is not negative")
        if not 0 <= self.rank < self.world:
            raise UserError(f"rank {self.rank} is not one of the {self.world} processes")

    def batch(self, step: int) -> Places:
        """This rank's part of the batch of a step (the first step is 0)."""
        share = self.batch_size // self.world
        first = step * self.batch_size + self.rank * share
        epochs, position = np.divmod(np.arange(first, first + share), self.examples)
        indices = np.empty_like(position)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = permutation(self.seed, int(epoch), self.examples)[position[here]]
        return Places(epochs, indices)

    def total_steps(self, epochs: float) -> int:
        """Steps of a training run: ``⌊epochs · examples / batch_size⌋``."""
        return int(epochs * self.examples / self.batch_size)


@dataclass(frozen=True, kw_only=True)
class InOrder:
    """Every example once, as the source has them; the last batch may be short.

    >>> InOrder(examples=5, batch_size=2).batch(2).indices
    array([4])
    >>> InOrder(examples=5, batch_size=2).steps
    3
    """

    examples: int
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"the batch size is {self.batch_size}: choose at least 1")

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-self.examples // self.batch_size)

    def batch(self, step: int) -> Places:
        """The batch of a step (the first step is 0)."""
        first = step * self.batch_size
        indices = np.arange(first, min(first + self.batch_size, self.examples))
        return Places(np.zeros_like(indices), indices)
