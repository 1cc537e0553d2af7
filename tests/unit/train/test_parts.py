from __future__ import annotations

from typing import Any

import pytest
import torch

from normfree.data import Batch
from normfree.train.config import Recipe
from normfree.train.parts import outputs, split


def batch(size: int) -> Batch:
    places = torch.arange(size)
    return Batch(places.view(-1, 1, 1, 1).to(torch.uint8), places, 100 + places)


def recipe(**changes: Any) -> Recipe:
    return Recipe(**({"data": "d", "model": "m", "epochs": 1, "batch_size": 8} | changes))


@pytest.mark.parametrize("accumulate", [1, 2, 3, 8])
def test_a_part_holds_every_nth_example(accumulate: int) -> None:
    parts = list(split(batch(8), recipe(accumulate=accumulate)))
    assert len(parts) == accumulate
    for first, part in enumerate(parts):
        assert part.own.labels.tolist() == list(range(first, 8, accumulate))
        assert part.own.images.flatten().tolist() == part.own.labels.tolist()
    assert all(part.others is None for part in parts)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_two_batches_make_one(accumulate: int) -> None:
    mixed = recipe(mixing="mixup_cutmix", accumulate=accumulate)
    parts = list(split(batch(16), mixed))
    assert outputs(batch(16), mixed) == 8
    pairs = [p for x in parts if x.others for p in zip(x.own.keys, x.others.keys, strict=True)]
    assert sorted((int(a), int(b)) for a, b in pairs) == [(100 + i, 108 + i) for i in range(8)]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_in_a_batch_each_is_mixed_with_the_next(accumulate: int) -> None:
    mixed = recipe(mixing="cutmix", pairing="in_batch", accumulate=accumulate)
    parts = list(split(batch(8), mixed))
    for part in parts:
        assert part.others is not None
        assert part.others.labels.tolist() == [(i + 1) % 8 for i in part.own.labels.tolist()]
        assert part.others.images.flatten().tolist() == part.others.labels.tolist()


@pytest.mark.parametrize(
    ("mixing", "share"), [("none", 0), ("mixup", 0), ("cutmix", 8), ("mixup_cutmix", 4)]
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_second_half_is_cutmix_however_many_parts_there_are(
    mixing: Any, share: int, accumulate: int
) -> None:
    parts = split(batch(8), recipe(mixing=mixing, pairing="in_batch", accumulate=accumulate))
    for part in parts:
        assert part.cutmix.tolist() == [i >= 8 - share for i in part.own.labels.tolist()]


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_each_part_has_some_of_both_halves(accumulate: int) -> None:
    mixed = recipe(mixing="mixup_cutmix", pairing="in_batch", accumulate=accumulate)
    for part in split(batch(8), mixed):
        assert {*part.cutmix.tolist()} == {False, True}


def test_a_fifth_is_spread_over_both_halves_and_keeps_its_partners() -> None:
    (part,) = split(batch(40), recipe(mixing="mixup_cutmix", batch_size=20))
    few = part.thinned(0.2)
    assert few.own.labels.tolist() == [0, 5, 10, 15]
    assert few.others is not None
    assert few.others.labels.tolist() == [20, 25, 30, 35]
    assert few.cutmix.tolist() == [False, False, True, True]


def test_thinning_leaves_at_least_one_and_at_most_all() -> None:
    (part,) = split(batch(8), recipe())
    assert len(part.thinned(0.01).own.labels) == 1
    assert part.thinned(1.0).own.labels.tolist() == list(range(8))


@pytest.mark.parametrize("accumulate", [1, 3, 5])
def test_the_same_fifth_is_chosen_in_any_number_of_parts(accumulate: int) -> None:
    mixed = recipe(mixing="mixup_cutmix", accumulate=accumulate, batch_size=40)
    few = list(split(batch(80), mixed, share=0.2))
    assert sorted(torch.cat([p.own.labels for p in few]).tolist()) == list(range(0, 40, 5))
    for part in few:
        assert part.others is not None
        assert torch.equal(part.others.labels, part.own.labels + 40)
    assert len(few) == -(-accumulate // 5)
