"""The order of sharded examples: every example once, whoever reads, and shards front to back."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.order import occurrences
from normfree.data.plan import BatchPlan
from normfree.data.shard_order import ShardOrder, shuffled


@given(
    st.lists(st.integers(0, 9), max_size=20), st.integers(1, 9), st.integers(1, 20), st.integers(0)
)
def test_every_example_comes_once(sizes, lanes, window, epoch):
    order = ShardOrder(np.array(sizes, np.int64), lanes=lanes, window=window)(3, epoch)
    assert len(order) == sum(sizes)
    assert sorted(order[np.arange(len(order))]) == list(range(len(order)))


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_a_shuffle_is_a_permutation(size, key):
    places = np.arange(size)
    found = shuffled(places, np.full(size, size), np.full(size, key))
    assert sorted(found) == list(range(size))


def test_a_shuffle_spreads_evenly():
    size, keys = 10, np.arange(20_000)
    for place in (0, 7):
        found = shuffled(np.full(len(keys), place), np.full(len(keys), size), keys)
        counts = np.bincount(found, minlength=size)
        assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000 * 0.9)  # five standard deviations


def sharded(lanes=512, window=256):
    """10,000 shards of 64 to 191 examples."""
    sizes = np.random.default_rng(0).integers(64, 192, 10_000)
    order = ShardOrder(sizes, lanes=lanes, window=window)
    plan = BatchPlan(
        seed=1, examples=int(sizes.sum()), batch_size=4096, world=512, order=order
    )  # fmt: skip
    return sizes, order, plan


def test_ten_thousand_shards_over_512_ranks():
    sizes, order, plan = sharded()
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    for epoch in (0, 1):
        read = order(1, epoch)[np.arange(plan.examples)]
        assert np.array_equal(np.sort(read), np.arange(plan.examples))  # all, and all once
        shards = shard_of[read]
        opened = np.zeros(len(sizes), np.int64)
        for rank in range(512):
            own = shards[rank::512]
            seen, first = np.unique(own, return_index=True)
            last = len(own) - 1 - np.unique(own[::-1], return_index=True)[1]
            opened[seen] += 1
            # A shard is finished within its own length and a window on either side.
            assert (last - first).max() < sizes.max() + 2 * 256
            assert np.any(np.diff(read[rank::512]) < 0)  # shuffled
        assert opened.max() == 2
        assert (opened == 2).sum() <= 511  # one cut between two lanes runs through each
    first = np.arange(4096)
    assert not np.array_equal(order(1, 0)[first], order(1, 1)[first])


def test_ranks_of_a_sharded_plan_read_their_own_lanes():
    _, order, plan = sharded()
    epoch = order(1, 0)
    for rank in (0, 5, 511):
        for step in (0, 77):
            part = plan.micro_batch(step, rank)
            positions = np.arange(step * 4096, (step + 1) * 4096)[rank::512]
            np.testing.assert_array_equal(part.indices, epoch[positions])
            np.testing.assert_array_equal(part.offsets, positions)


@pytest.mark.parametrize("world", [1, 3, 512])
def test_any_world_reads_the_same_batches(world):
    _, order, plan = sharded(lanes=8)
    split = BatchPlan(
        seed=1, examples=plan.examples, batch_size=4096, world=world, accumulate=2, order=order
    )  # fmt: skip
    last = plan.examples // 4096  # runs on into the next epoch
    parts = [part.indices for rank in range(world) for part in split.step(last, rank)]
    assert sorted(np.concatenate(parts)) == sorted(plan.places(last).indices)


def test_memory_is_that_of_the_shards_not_of_the_examples():
    order = ShardOrder(np.full(10_000, 10**9), lanes=512)
    tracemalloc.start()
    order(0, 0)[np.arange(4096) + 10**12]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.parametrize("change", [{"sizes": np.array([-1])}, {"lanes": 0}, {"window": 0}])
def test_impossible_orders_are_refused(change):
    with pytest.raises(ValueError, match=r"negative|positive"):
        ShardOrder(**({"sizes": np.array([3])} | change))


def twice(seed, epoch):
    """An epoch of six in which example 2 comes three times."""
    return np.array([2, 0, 2, 1, 2, 0]) + 0 * epoch


def test_repeated_examples_get_keys_of_their_own():
    plan = BatchPlan(seed=0, examples=6, batch_size=6, order=twice)
    (part,) = plan.step(1)
    assert part.indices.tolist() == [2, 0, 2, 1, 2, 0]
    assert part.repeats.tolist() == [0, 0, 1, 0, 2, 1]
    assert len(set(part.keys)) == 6
    (usual,) = BatchPlan(seed=0, examples=6, batch_size=6).step(1)
    own = dict(zip(usual.indices, usual.keys, strict=True))
    assert part.keys[:2].tolist() == [own[2], own[0]]  # a first occurrence has the usual key
    halves = BatchPlan(seed=0, examples=6, batch_size=6, order=twice, accumulate=2).step(1)
    assert {*part.keys} == {key for half in halves for key in half.keys}


def test_an_order_of_another_length_is_refused():
    with pytest.raises(ValueError, match="has 6 examples, not 7"):
        BatchPlan(seed=0, examples=7, batch_size=2, order=twice).step(0)


def test_nothing_repeats_in_nothing():
    assert occurrences(np.array([], np.int64)).tolist() == []
