from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.sources.hold_out import held_out


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.sampled_from([0.1, 0.3, 0.5]))
def test_each_class_gives_its_share(labels, fraction):
    labels = np.array(labels)
    names = [f"image {n}" for n in range(len(labels))]
    chosen = held_out(names, labels, fraction=fraction)
    for label in np.unique(labels):
        size = (labels == label).sum()
        expected = 0 if size == 1 else min(size - 1, max(1, round(fraction * size)))
        assert chosen[labels == label].sum() == expected


@given(st.permutations(range(30)))
def test_the_choice_follows_from_the_names_alone(order):
    names, labels = np.array([f"{n}.jpg" for n in range(30)]), np.arange(30) % 3
    chosen = held_out(names, labels)
    again = held_out(names[order], labels[order])
    np.testing.assert_array_equal(again, chosen[order])


def test_the_choice_is_the_same_in_every_version():
    names = [f"{n}.jpg" for n in range(40)]
    assert np.flatnonzero(held_out(names, np.zeros(40, int))).tolist() == [6, 10, 12, 13]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=60))
def test_a_group_is_on_one_side(pairs):
    groups = np.array([group for group, _ in pairs])
    labels = np.array([label for _, label in pairs])
    chosen = held_out([""] * len(pairs), labels, groups)
    for group in range(10):
        assert len(set(chosen[groups == group])) <= 1
    assert not chosen.all()
