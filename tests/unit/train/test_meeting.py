"""Processes that are started again do not meet those before them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore, Store

from normfree.errors import UserError
from normfree.train.meeting import meet

PATIENCE = timedelta(seconds=20)


def met(store: Store, world: int) -> list[Store]:
    """The part of the store that each rank gets."""
    with ThreadPoolExecutor(world) as ranks:
        return list(ranks.map(lambda rank: meet(store, rank, world, PATIENCE), range(world)))


def test_each_start_has_a_part_of_its_own() -> None:
    store = HashStore()
    first, second = met(store, 3), met(store, 3)  # the same store, and what the first left in it
    first[0].set("address", "gone")
    assert all(part.check(["address"]) for part in first)
    assert not any(part.check(["address"]) for part in second)
    second[1].set("address", "here")
    assert [part.get("address") for part in second] == [b"here"] * 3


def test_a_number_left_by_a_rank_that_is_gone_is_not_taken_for_one_that_comes() -> None:
    store = HashStore()
    store.set("here/1", "gone")
    with pytest.raises(UserError, match=r"rank 1 did not come within 0\.1 s"):
        meet(store, 0, 2, timedelta(seconds=0.1))
    assert len(met(store, 2)) == 2
