from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.ascent import Ascent, spread
from normfree.data.eval_plan import EvalPlan
from normfree.data.plan import BatchPlan, permutation
from normfree.errors import UserError
from normfree.random import example_keys

mixings = st.sampled_from(["none", "mixup", "cutmix", "mixup_cutmix"])
pairings = st.sampled_from(["two_batches", "in_batch"])


@st.composite
def plans(draw, scopes=("batch", "other_batch")):
    """An unsplit plan and two ways to split it."""
    batch_size = draw(st.integers(2, 40))
    ascent = st.builds(Ascent, fraction=st.floats(0.01, 1), scope=st.sampled_from(scopes))
    settings = {
        "seed": draw(st.integers(0, 2**40)),
        "examples": draw(st.integers(1, 60)),
        "batch_size": batch_size,
        "mixing": draw(mixings),
        "pairing": draw(pairings),
        "ascent": draw(st.none() | ascent),
    }
    world = draw(st.integers(1, batch_size))
    accumulate = draw(st.integers(1, batch_size // world))
    return BatchPlan(**settings), BatchPlan(**settings, world=world, accumulate=accumulate)


def micro_batches(plan, step):
    return [part for rank in range(plan.world) for part in plan.step(step, rank)]


def mixtures(plan, step):
    """(image, partner, kind, key, ascent) of every example of a global step."""
    found = []
    for part in micro_batches(plan, step):
        places = list(
            zip(part.epochs.tolist(), part.indices.tolist(), part.keys.tolist(), strict=True)
        )
        assert len(set(places)) == len(places)  # nothing is read twice
        rows = [None] * len(part.cutmix) if part.partners is None else part.partners.tolist()
        for row, partner in enumerate(rows):
            mixed_with = None if partner is None else places[partner]
            found.append((places[row], mixed_with, bool(part.cutmix[row]), bool(part.ascent[row])))
    return found


@given(plans(), st.integers(0, 5))
def test_any_world_and_any_accumulation_see_the_same_mixtures(both, step):
    whole, split = both
    wanted = mixtures(whole, step)
    assert len(wanted) == whole.batch_size + whole.others
    assert Counter(mixtures(split, step)) == Counter(wanted)


@given(plans())
def test_every_epoch_visits_every_example_once(both):
    plan = both[1]
    visited = Counter()
    steps = 2 * plan.examples // plan.reads + 1
    for step in range(steps):
        read = set()
        for part in micro_batches(plan, step):
            read |= set(zip(part.epochs.tolist(), part.indices.tolist(), strict=True))
        assert len(read) == plan.reads  # images read by two micro-batches count once
        visited.update(read)
    assert max(visited.values()) == 1
    for epoch in range(steps * plan.reads // plan.examples):  # complete epochs only
        assert sorted(i for e, i in visited if e == epoch) == list(range(plan.examples))


@given(plans())
def test_micro_batches_differ_by_one_example_at_most(both):
    plan = both[1]
    sizes = [len(part.cutmix) for part in micro_batches(plan, 0)]
    assert len(sizes) == plan.world * plan.accumulate
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 4])
def test_micro_batch_j_of_rank_r_holds_every_nth_position(world, accumulate):
    plan = BatchPlan(seed=1, examples=100, batch_size=8, accumulate=accumulate, world=world)
    whole = plan.places(2).indices
    for rank in range(world):
        for j, part in enumerate(plan.step(2, rank)):
            wanted = whole[j * world + rank :: world * accumulate]
            np.testing.assert_array_equal(part.indices, wanted)
            assert part.partners is None
            np.testing.assert_array_equal(part.keys, example_keys(1, part.epochs, part.indices))


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(
    ("pairing", "partner"), [("two_batches", lambda i: i + 8), ("in_batch", lambda i: (i + 1) % 8)]
)
def test_each_position_is_mixed_with_its_own(accumulate, pairing, partner):
    plan = BatchPlan(
        seed=1, examples=100, batch_size=8, mixing="mixup", pairing=pairing, accumulate=accumulate
    )
    whole = plan.places(3).indices
    assert len(whole) == plan.reads == (16 if pairing == "two_batches" else 8)
    for j, part in enumerate(plan.step(3)):
        positions = np.arange(8)[j::accumulate]
        np.testing.assert_array_equal(part.indices[: len(positions)], whole[positions])
        np.testing.assert_array_equal(part.indices[part.partners], whole[partner(positions)])


def test_in_one_micro_batch_partners_are_read_once():
    settings = {"seed": 0, "examples": 50, "batch_size": 8, "mixing": "cutmix"}
    (whole,) = BatchPlan(**settings, pairing="in_batch").step(0)
    assert len(whole.indices) == 8
    assert whole.partners.tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
    (pairs,) = BatchPlan(**settings).step(0)
    assert len(pairs.indices) == 16
    assert pairs.partners.tolist() == list(range(8, 16))


@pytest.mark.parametrize(
    ("mixing", "share"), [("none", 0), ("mixup", 0), ("cutmix", 9), ("mixup_cutmix", 5)]
)
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_the_second_half_is_cutmix_however_it_is_split(mixing, share, accumulate):
    plan = BatchPlan(seed=0, examples=99, batch_size=9, mixing=mixing, accumulate=accumulate)
    for j, part in enumerate(plan.step(0)):
        assert part.cutmix.tolist() == [i >= 9 - share for i in range(9)[j::accumulate]]
        if mixing == "mixup_cutmix":
            assert {*part.cutmix.tolist()} == {False, True}


@pytest.mark.parametrize("accumulate", [1, 3, 5])
def test_a_fifth_of_the_batch_ascends_wherever_it_lies(accumulate):
    plan = BatchPlan(
        seed=0, examples=99, batch_size=40, accumulate=accumulate, ascent=Ascent(fraction=0.2)
    )
    whole = plan.places(0).indices
    chosen = [part.indices[part.ascent] for part in plan.step(0)]
    assert sorted(np.concatenate(chosen)) == sorted(whole[::5])


@pytest.mark.parametrize("world", [1, 2])
def test_each_micro_batch_ascends_by_a_fifth_of_its_own(world):
    ascent = Ascent(fraction=0.2, scope="micro_batch")
    plan = BatchPlan(
        seed=0, examples=99, batch_size=40, accumulate=4, world=world, ascent=ascent
    )  # fmt: skip
    for part in micro_batches(plan, 0):
        assert part.ascent.nonzero()[0].tolist() == ([0, 5] if world == 1 else [0])


@pytest.mark.parametrize("pairing", ["two_batches", "in_batch"])
def test_another_batch_ascends_and_does_nothing_else(pairing):
    ascent = Ascent(fraction=0.2, scope="other_batch")
    plan = BatchPlan(
        seed=0, examples=200, batch_size=40, mixing="mixup_cutmix", pairing=pairing,
        accumulate=3, world=2, ascent=ascent,
    )  # fmt: skip
    descend, ascend = [], []
    for part in micro_batches(plan, 1):
        size = len(part.cutmix) - part.others
        assert part.ascent.tolist() == [False] * size + [True] * part.others
        rows = list(zip(part.indices.tolist(), part.cutmix.tolist(), strict=False))
        mates = part.indices[part.partners].tolist()
        descend += zip(rows[:size], mates[:size], strict=True)
        ascend += zip(rows[size : size + part.others], mates[size:], strict=True)
    assert (len(descend), len(ascend)) == (40, 8)
    first, second = ({row[0] for row, _ in some} for some in (descend, ascend))
    assert not first & second  # no image of the batch
    assert sum(cutmix for (_, cutmix), _ in descend) == 20
    assert sum(cutmix for (_, cutmix), _ in ascend) == 4
    mates = {mate for _, mate in ascend}
    assert mates == second if pairing == "in_batch" else not mates & (first | second)


def test_nothing_ascends_without_sam():
    plan = BatchPlan(seed=0, examples=9, batch_size=9)
    assert not plan.step(0)[0].ascent.any()


def test_a_single_micro_batch_that_is_to_ascend_alone_is_refused():
    settings = {"seed": 0, "examples": 9999, "batch_size": 4096}
    alone = Ascent(scope="micro_batch")
    with pytest.raises(UserError, match=r"raise --accumulate .*: --accumulate 128"):
        BatchPlan(**settings, ascent=alone)
    BatchPlan(**settings, ascent=alone, accumulate=2)
    BatchPlan(**settings, ascent=alone, world=2)
    BatchPlan(**settings, ascent=Ascent())


def test_a_spread_share_has_at_least_one_and_at_most_all():
    assert spread(8, 0.01).sum() == 1
    assert spread(8, 1.0).all()


def test_epochs_and_seeds_have_different_orders():
    first, second = (BatchPlan(seed=seed, examples=100, batch_size=100) for seed in (0, 1))
    assert not np.array_equal(first.places(0).indices, first.places(1).indices)
    assert not np.array_equal(first.places(0).indices, second.places(0).indices)


def test_a_batch_runs_on_into_the_next_epoch():
    places = BatchPlan(seed=0, examples=10, batch_size=8).places(1)
    assert places.epochs.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert places.indices.dtype == np.int64


def test_a_batch_larger_than_several_epochs_draws_each_order_once():
    permutation.cache_clear()
    plan = BatchPlan(seed=0, examples=7, batch_size=70, accumulate=10)
    for part in [*plan.step(0), *plan.step(1)]:
        assert len(part.indices) == 7
    assert permutation.cache_info().misses == 20
    for step in (0, 1):
        places = plan.places(step)
        for epoch in range(10 * step, 10 * step + 10):
            assert sorted(places.indices[places.epochs == epoch]) == list(range(7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": 0}, "no examples"),
        ({"batch_size": 0}, "batch_size should be greater than or equal to 1"),
        ({"accumulate": 0}, "accumulate should be greater than or equal to 1"),
        ({"world": 3, "accumulate": 3}, r"a batch of 8 .* 9 micro-batches .*lower --accumulate"),
        ({"seed": -1}, "seed should be greater than or equal to 0"),
        ({"batch_size": 1, "mixing": "mixup", "pairing": "in_batch"}, "at least two"),
        ({"mixing": "blend"}, "mixing should be 'none'"),
    ],
)
def test_impossible_plans_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        BatchPlan(**({"seed": 0, "examples": 10, "batch_size": 8} | change))


def test_a_rank_beyond_the_world_is_refused():
    with pytest.raises(UserError, match="rank 2 is not one of the 2"):
        BatchPlan(seed=0, examples=10, batch_size=8, world=2).step(0, rank=2)


@given(st.integers(0, 40), st.integers(1, 50))
def test_an_evaluation_covers_everything_once(examples, batch_size):
    plan = EvalPlan(examples=examples, batch_size=batch_size)
    parts = [plan.micro_batch(number) for number in range(plan.batches)]
    assert [index for part in parts for index in part.indices] == list(range(examples))
    assert all(1 <= len(part.indices) <= batch_size for part in parts)


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 12))
def test_ranks_share_an_evaluation(examples, batch_size, world):
    plan = EvalPlan(examples=examples, batch_size=batch_size, world=world)
    parts = [
        plan.micro_batch(number, rank)
        for rank in range(world)
        for number in range(plan.batches_of(rank))
    ]
    assert len(parts) == plan.batches
    assert all(len(part.indices) for part in parts)
    assert sorted(index for part in parts for index in part.indices) == list(range(examples))
    alone = EvalPlan(examples=examples, batch_size=batch_size)
    for place, part in enumerate(parts[: plan.batches_of(0)]):
        assert part.indices.tolist() == alone.micro_batch(world * place).indices.tolist()


def test_an_evaluation_refuses_a_rank_beyond_the_world():
    with pytest.raises(UserError, match="rank 2 is not one of the 2"):
        EvalPlan(examples=3, batch_size=1, world=2).batches_of(2)


def test_an_evaluation_refuses_an_empty_batch():
    with pytest.raises(UserError, match="batch_size should be greater than or equal to 1"):
        EvalPlan(examples=3, batch_size=0)
