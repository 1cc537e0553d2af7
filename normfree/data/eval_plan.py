"""Plan the batches of an evaluation."""

from __future__ import annotations

import numpy as np

from normfree.data.micro_batch_plan import MicroBatchPlan, check_rank
from normfree.random import example_keys
from normfree.schema import Field, record


@record
class EvalPlan:
    """Every example once over all ranks, in source order; the last batch may be smaller.

    Batch k belongs to rank ``k % world``, so any number of ranks sees the same batches, and a
    metric that is summed batch by batch is the same.

    >>> EvalPlan(examples=5, batch_size=2).micro_batch(2).indices
    array([4])
    >>> EvalPlan(examples=5, batch_size=2).batches
    3
    >>> EvalPlan(examples=5, batch_size=2, world=2).micro_batch(0, rank=1).indices
    array([2, 3])
    """

    examples: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    world: int = Field(default=1, ge=1)

    @property
    def batches(self) -> int:
        """The number of batches over all ranks."""
        return -(-self.examples // self.batch_size)

    def batches_of(self, rank: int) -> int:
        """The number of batches of a rank; ranks may differ by one."""
        check_rank(rank, self.world)
        return len(range(rank, self.batches, self.world))

    def micro_batch(self, number: int, rank: int = 0) -> MicroBatchPlan:
        """A batch of a rank by its number from 0, with the keys of seed 0."""
        check_rank(rank, self.world)
        first = (number * self.world + rank) * self.batch_size
        indices = np.arange(first, min(first + self.batch_size, self.examples))
        zeros, nothing = np.zeros_like(indices), np.zeros(len(indices), dtype=bool)
        return MicroBatchPlan(
            epochs=zeros,
            indices=indices,
            keys=example_keys(0, zeros, indices),
            offsets=indices,
            repeats=zeros,
            partners=None,
            cutmix=nothing,
            ascent=nothing,
        )
