"""An order for examples that lie in shards: each is read front to back, as far as possible."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int

from normfree.random import fold_in, numpy_generator

_STREAM = 2  # numpy_generator stream for the order of the shards
_KEYS = 0x53485244  # "SHRD": the keys of the windows
_ROUNDS = 4  # of the Feistel network; four make it a strong pseudo-random permutation


@dataclass(frozen=True, eq=False)
class ShardOrder:
    """Visit each example once: shards in random order, examples shuffled within a window.

    The shards of an epoch are put one behind another in random order, and the sequence is cut into
    ``lanes`` of equal length (±1). Position p of the epoch is place ``p // lanes`` of lane
    ``p % lanes``. Each lane is shuffled within windows of ``window`` places, so it is read from at
    most a few neighboring shards at a time, and shards that are behind it are never needed again.

    The lanes do not depend on the number of ranks. Where that number divides both the lanes and the
    batch size, each rank reads lanes of its own, so a shard is opened by one rank, or by two if a
    cut between lanes runs through it. Any other number of ranks sees the same batches, too; several
    ranks then share lanes.

    Memory is O(shards) beside the list of examples; n positions take O(n log shards) operations.

    Args:
        sizes: number of examples of each shard.
        examples: the examples of the first shard in their order, then those of the second, and so
            on; None: they are numbered in this way.
        lanes: places that are read at the same time, over all ranks.
        window: places of a lane that are shuffled with each other. As many compressed examples have
            to be in memory for each lane, if shards can only be read front to back.

    Raises:
        ValueError: a size is negative, or ``lanes`` or ``window`` is not positive.

    >>> order = ShardOrder(np.array([4, 4, 4, 4]), lanes=2, window=2)
    >>> epoch = order(0, 0)
    >>> sorted(epoch[np.arange(16)]) == list(range(16))
    True
    >>> epoch[np.arange(0, 8, 2)] // 4  # the shards of the first lane's first examples
    array([0, 0, 0, 0])

    Source: the lanes are the idea of MosaicML Streaming's canonical nodes.

    Differs from: WebDataset's shuffle, which depends on the number of nodes and workers and on how
        fast each reads, and visits examples twice or not at all where shards differ in size.
    """

    sizes: Int[np.ndarray, " shards"] = field(repr=False)
    lanes: int = 64
    window: int = 1024
    examples: Int[np.ndarray, " n"] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if np.any(np.asarray(self.sizes) < 0):
            raise ValueError("a shard cannot have a negative number of examples")
        if self.lanes < 1 or self.window < 1:
            raise ValueError(f"{self.lanes} lanes, windows of {self.window}: both must be positive")

    def __call__(self, seed: int, epoch: int) -> ShardEpoch:
        """The examples of an epoch."""
        shards = numpy_generator(seed, _STREAM, epoch).permutation(len(self.sizes))
        ends = np.cumsum(np.asarray(self.sizes, dtype=np.int64)[shards])
        key = int(fold_in(fold_in(_KEYS, seed), epoch))
        return ShardEpoch(shards, ends, self.first, self.lanes, self.window, key, self.examples)

    @cached_property
    def first(self) -> Int[np.ndarray, " shards"]:
        """Index of the first example of each shard."""
        sizes = np.asarray(self.sizes, dtype=np.int64)
        return np.cumsum(sizes) - sizes


@dataclass(frozen=True, eq=False)
class ShardEpoch:
    """One epoch of a :class:`ShardOrder`: position → index of an example.

    Args:
        shards: the shards in the order in which they are read.
        ends: number of examples up to the end of each of them.
        first: index of the first example of each shard, in the source's order.
        lanes: see :class:`ShardOrder`.
        window: see :class:`ShardOrder`.
        key: determines the shuffle within the windows.
        examples: see :class:`ShardOrder`.
    """

    shards: Int[np.ndarray, " shards"]
    ends: Int[np.ndarray, " shards"]
    first: Int[np.ndarray, " shards"]
    lanes: int
    window: int
    key: int
    examples: Int[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, positions: Int[np.ndarray, " n"], /) -> Int[np.ndarray, " n"]:
        """The examples at some positions, from 0 to ``len(self) − 1``."""
        place, lane = np.divmod(np.asarray(positions, dtype=np.int64), self.lanes)
        length, longer = divmod(len(self), self.lanes)  # the first ``longer`` have one more
        begin = lane * length + np.minimum(lane, longer)
        number, inside = np.divmod(place, self.window)
        size = np.minimum(self.window, length + (lane < longer) - number * self.window)
        keys = fold_in(fold_in(np.full_like(lane, self.key), lane), number)
        sequence = begin + number * self.window + shuffled(inside, size, keys)
        at = np.searchsorted(self.ends, sequence, side="right")
        shard = self.shards[at]
        sizes_before = self.ends[at - 1] * (at > 0)
        found = self.first[shard] + sequence - sizes_before
        return found if self.examples is None else self.examples[found]


def shuffled(
    places: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " n"], keys: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Pseudo-random permutations of ``range(size)``, each evaluated at a single place.

    A Feistel network permutes the numbers below a power of four; a result beyond ``size`` goes
    through the network again (cycle walking), at most four times on average.

    Args:
        places: arguments, below ``sizes``.
        sizes: number of places of each permutation.
        keys: which permutation; equal keys and sizes belong to the same one.

    >>> shuffled(np.arange(5), np.full(5, 5), np.full(5, 9))
    array([4, 1, 2, 3, 0])
    """
    half = np.zeros_like(sizes)
    while np.any(short := (np.int64(1) << (2 * half)) < sizes):
        half += short
    found, outside = np.array(places, dtype=np.int64), np.arange(len(places))
    while len(outside):
        found[outside] = _feistel(found[outside], half[outside], keys[outside])
        outside = outside[found[outside] >= sizes[outside]]
    return found


def _feistel(
    x: Int[np.ndarray, " n"], half: Int[np.ndarray, " n"], keys: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """A bijection of the numbers of ``2 · half`` bits."""
    mask = (np.int64(1) << half) - 1
    left, right = x >> half, x & mask
    for step in range(_ROUNDS):
        left, right = right, left ^ (fold_in(fold_in(keys, step), right) & mask)
    return (left << half) | right
