from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.order import InOrder, Order
from normfree.errors import UserError

sizes = st.tuples(st.integers(1, 40), st.integers(1, 50))


def _stream(order, steps):
    places = [order.batch(step) for step in range(steps)]
    return tuple(np.concatenate(part) for part in zip(*places, strict=True))


@given(sizes, st.integers(0, 2**40))
def test_every_epoch_visits_every_example_once(size, seed):
    examples, batch_size = size
    order = Order(seed=seed, examples=examples, batch_size=batch_size)
    epochs, indices = _stream(order, steps=3 * examples)
    assert np.all(np.diff(epochs) >= 0)
    for epoch in range(epochs[-1]):  # the last one may be cut
        assert sorted(indices[epochs == epoch]) == list(range(examples))


@given(sizes, st.integers(1, 4), st.integers(0, 20))
def test_the_ranks_tile_the_global_batch(size, world, step):
    examples, share = size
    batch_size = share * world
    whole = Order(seed=3, examples=examples, batch_size=batch_size).batch(step)
    parts = [
        Order(seed=3, examples=examples, batch_size=batch_size, rank=rank, world=world).batch(step)
        for rank in range(world)
    ]
    for ours, expected in zip(zip(*parts, strict=True), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(ours), expected)


def test_epochs_and_seeds_have_different_orders():
    first, second = (Order(seed=seed, examples=100, batch_size=100) for seed in (0, 1))
    assert not np.array_equal(first.batch(0).indices, first.batch(1).indices)
    assert not np.array_equal(first.batch(0).indices, second.batch(0).indices)


def test_a_batch_runs_on_into_the_next_epoch():
    places = Order(seed=0, examples=10, batch_size=8).batch(1)
    assert places.epochs.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert places.indices.dtype == np.int64


def test_total_steps_of_the_paper():
    order = Order(seed=0, examples=1_281_167, batch_size=4096)
    assert order.total_steps(epochs=360.0) == 112_602


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": 0}, "no examples"),
        ({"batch_size": 0}, "batch of 0"),
        ({"batch_size": 9, "world": 2}, "multiple of 2"),
        ({"seed": -1}, "not negative"),
        ({"rank": 2, "world": 2}, "rank 2"),
    ],
)
def test_impossible_orders_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        Order(**({"seed": 0, "examples": 10, "batch_size": 8} | change))


@given(st.integers(0, 40), st.integers(1, 50))
def test_in_order_covers_everything_once(examples, batch_size):
    order = InOrder(examples=examples, batch_size=batch_size)
    indices = [index for step in range(order.steps) for index in order.batch(step).indices]
    assert indices == list(range(examples))
    assert all(1 <= len(order.batch(step).indices) <= batch_size for step in range(order.steps))


def test_in_order_refuses_an_empty_batch():
    with pytest.raises(UserError, match="at least 1"):
        InOrder(examples=3, batch_size=0)
