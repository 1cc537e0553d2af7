"""Plan micro-batches: their examples, mixing partners, and the examples for the SAM ascent step.

Each step is planned on the global batch *before* the batch is split. The plan is a function of an
example's position in the global batch. Any number of ranks and any accumulation therefore see the
same set of (image, partner, kind of mixing, key); only the division of work differs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from normfree.data.ascent import Ascent, spread
from normfree.data.micro_batch_plan import MicroBatchPlan, check_rank
from normfree.data.order import Order, epoch_order, permutation, repeats
from normfree.errors import UserError
from normfree.random import example_keys, fold_in
from normfree.schema import Field, record

__all__ = ["BatchPlan", "Places", "permutation"]

Mixing: TypeAlias = Literal["none", "mixup", "cutmix", "mixup_cutmix"]
Pairing: TypeAlias = Literal["two_batches", "in_batch"]


class Places(NamedTuple):
    """The epochs and indices of consecutive positions in the training stream."""

    epochs: Int[np.ndarray, " n"]
    indices: Int[np.ndarray, " n"]


@record
class BatchPlan:
    """The training stream, divided into steps and micro-batches.

    The stream is endless. Position p belongs to epoch ``p // examples``, and each epoch visits the
    examples in its own random order. A step takes the next B positions, or 2B if partners come
    from a second batch. It may cross the end of an epoch, so no batch is short.

    Of the B examples of a step, micro-batch j of rank r trains on positions
    ``(j · world + r) :: (world · accumulate)``, a strided sample of the batch. Position i is mixed
    with position ``i + B`` (``two_batches``, as in the authors' code) or ``(i + 1) mod B``
    (``in_batch``). With ``mixup_cutmix``, MixUp applies to the first half of the B examples and
    CutMix to the second.

    If SAM ascends by another batch, the A examples of that batch follow the B in the stream. They
    are mixed likewise, among themselves, and divided beginning with the last micro-batch, so that
    all are of one size, or one more.

    With ``in_batch``, a step of one micro-batch reads B images. A step of several micro-batches
    reads up to 2B, because partners may belong to other micro-batches.

    Args:
        seed: seed of the run.
        examples: number of examples per epoch.
        batch_size: B, examples per optimizer step over all ranks.
        mixing: how images are mixed.
        pairing: where mixing partners come from.
        accumulate: micro-batches per step and rank.
        world: number of ranks.
        ascent: examples for the SAM ascent step; None without SAM.
        order: the examples of each epoch, in order; None for a random permutation.

    Raises:
        UserError: a number is out of range, a micro-batch would be empty, or ``ascent`` is per
            micro-batch and a step has only one.

    >>> plan = BatchPlan(seed=0, examples=10, batch_size=4, mixing="mixup_cutmix", accumulate=2)
    >>> first, second = plan.step(1)
    >>> first.epochs, first.partners, first.cutmix
    (array([0, 1, 1, 1]), array([2, 3]), array([False,  True]))

    Differs from: ``torch.utils.data.DistributedSampler``, which pads or drops examples at the end
        of an epoch. Here every epoch visits each example exactly once.
    """

    seed: int = Field(ge=0, lt=2**63)
    examples: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    mixing: Mixing = "none"
    pairing: Pairing = "two_batches"
    accumulate: int = Field(default=1, ge=1)
    world: int = Field(default=1, ge=1)
    ascent: Ascent | None = None
    order: Order | None = None

    def __post_init__(self) -> None:
        """Reject settings from which no step can be built."""
        if self.examples < 1:
            raise UserError("there are no examples to train on: is the data source empty?")
        parts = self.accumulate * self.world
        if parts > self.batch_size:
            raise UserError(
                f"a batch of {self.batch_size} cannot be split into {parts} micro-batches "
                f"({self.accumulate} on each of {self.world} processes): lower --accumulate or "
                "raise --batch-size"
            )
        if self.mixing != "none" and self.pairing == "in_batch" and self.batch_size < 2:
            raise UserError(
                "--pairing in_batch mixes the images of a batch with each other and needs at least "
                "two: raise --batch-size"
            )
        if self.ascent is not None and self.ascent.scope == "micro_batch" and parts == 1:
            raise UserError(
                "the SAM ascent is per micro-batch, but each step is a single micro-batch: "
                "raise --accumulate (the paper's replicas have 32 images each: --accumulate "
                f"{max(2, self.batch_size // 32)}), or use one ascent for the whole batch"
            )

    @property
    def reads(self) -> int:
        """Stream positions per step: B + A, or twice that with second batches of partners."""
        second = self.mixing != "none" and self.pairing == "two_batches"
        return (self.batch_size + self.others) * (2 if second else 1)

    @property
    def others(self) -> int:
        """A, the examples of a step that only SAM's ascent needs."""
        return 0 if self.ascent is None else self.ascent.others(self.batch_size)

    def places(self, step: int) -> Places:
        """The examples of a step's global batch, in stream order; steps count from 0."""
        return _places(self.order, self.seed, self.examples, self.reads, step)

    @property
    def ascent_passes(self) -> int:
        """Passes that each rank makes over its ascending examples of a step: as many on all ranks.

        As few as hold them, none larger than a micro-batch; on the rank that needs most.

        >>> split = {"seed": 0, "examples": 9, "batch_size": 8, "world": 2, "accumulate": 2}
        >>> [BatchPlan(**split, ascent=Ascent(fraction=x)).ascent_passes for x in (1, 0.25)]
        [2, 1]
        """
        if self.ascent is None:
            return 0
        chosen = spread(self.batch_size, self.ascent.fraction)
        ascending = np.ones(self.others, dtype=bool) if self.others else chosen
        first = self.world - 1 if self.others else 0  # others are divided from the last rank on
        parts, ranks = self.world * self.accumulate, range(self.world)
        return max(
            -(-int(ascending[abs(first - r) :: self.world].sum()) // len(chosen[r::parts]))
            for r in ranks
        )

    def step(self, step: int, rank: int = 0) -> list[MicroBatchPlan]:
        """The micro-batches of a step on one rank; steps count from 0."""
        first = step * self.accumulate
        return [self.micro_batch(first + j, rank) for j in range(self.accumulate)]

    def micro_batch(self, number: int, rank: int = 0) -> MicroBatchPlan:
        """Micro-batch number ``step · accumulate + j`` of a rank."""
        check_rank(rank, self.world)
        step, j = divmod(number, self.accumulate)
        parts = self.world * self.accumulate
        batch = np.arange(j * self.world + rank, self.batch_size, parts)
        others = np.arange(parts - 1 - (j * self.world + rank), self.others, parts)
        own = np.concatenate([batch, self.batch_size + others])
        positions, partners = own, None
        if self.mixing != "none":
            positions, partners = _with_partners(own, self._partners(own))
        epochs, indices = (places[positions] for places in self.places(step))
        offsets = (step * self.reads + positions) % self.examples
        again = self._repeats(epochs, offsets)
        keys = example_keys(self.seed, epochs, indices)
        return MicroBatchPlan(
            epochs=epochs,
            indices=indices,
            keys=np.where(again > 0, fold_in(keys, again), keys),
            offsets=offsets,
            repeats=again,
            partners=partners,
            cutmix=self._cutmix(own),
            ascent=self._ascent(own),
            others=len(others),
        )

    def _repeats(
        self, epochs: Int[np.ndarray, " m"], offsets: Int[np.ndarray, " m"]
    ) -> Int[np.ndarray, " m"]:
        counts = np.zeros_like(offsets)
        for epoch in np.unique(epochs) if self.order is not None else ():
            found = repeats(self.order, self.seed, int(epoch), self.examples)
            if found is not None:
                counts[epochs == epoch] = found[offsets[epochs == epoch]]
        return counts

    def _partners(self, own: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Positions of the mixing partners."""
        size = self.batch_size
        if self.pairing == "two_batches":
            return own + size + self.others
        following = (own - size + 1) % max(self.others, 1) + size
        return np.where(own < size, (own + 1) % size, following)

    def _cutmix(self, own: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        size = self.batch_size
        if self.mixing == "mixup_cutmix":
            return np.where(own < size, own >= size // 2, own - size >= self.others // 2)
        return np.full(len(own), self.mixing == "cutmix")

    def _ascent(self, own: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        if self.ascent is None:
            return np.zeros(len(own), dtype=bool)
        if self.others:
            return own >= self.batch_size
        if self.ascent.scope == "micro_batch":
            return spread(len(own), self.ascent.fraction)
        return spread(self.batch_size, self.ascent.fraction)[own]


@lru_cache(maxsize=2)  # all micro-batches of a step use the same result
def _places(order: Order | None, seed: int, examples: int, reads: int, step: int) -> Places:
    """Positions ``step · reads`` to ``(step + 1) · reads − 1`` of the stream."""
    epochs, position = np.divmod(np.arange(step * reads, (step + 1) * reads), examples)
    indices = np.empty_like(position)
    for epoch in range(epochs[0], epochs[-1] + 1):
        first, end = np.searchsorted(epochs, [epoch, epoch + 1])
        indices[first:end] = epoch_order(order, seed, int(epoch), examples)[position[first:end]]
    for array in (epochs, indices):
        array.flags.writeable = False  # shared through the cache
    return Places(epochs, indices)


def _with_partners(
    own: Int[np.ndarray, " n"], partners: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " n"]]:
    """Distinct positions with ``own`` first, and the row of each partner among them.

    >>> _with_partners(np.array([0, 1, 2]), np.array([1, 2, 0]))
    (array([0, 1, 2]), array([1, 2, 0]))
    >>> _with_partners(np.array([1, 3]), np.array([2, 0]))
    (array([1, 3, 2, 0]), array([2, 3]))
    """
    positions = np.concatenate([own, np.setdiff1d(partners, own, assume_unique=True)])
    order = np.argsort(positions)
    return positions, order[np.searchsorted(positions, partners, sorter=order)]
