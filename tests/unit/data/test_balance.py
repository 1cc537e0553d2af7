from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.balance import BalancedOrder, class_weights
from normfree.errors import UserError

_LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(_LABELS, st.integers(0, 5), st.integers(0, 3))
def test_every_class_has_its_share_of_every_epoch(labels, epoch, seed):
    chosen = BalancedOrder(labels)(seed, epoch)
    assert len(chosen) == len(labels)
    present = np.unique(labels)
    counts = np.bincount(labels[chosen], minlength=5)[present]
    assert counts.max() - counts.min() <= 2
    assert abs(counts - len(labels) / len(present)).max() <= 1


@given(_LABELS)
def test_over_epochs_classes_differ_by_one_and_examples_of_a_class_too(labels):
    order = BalancedOrder(labels)
    shown = np.zeros(len(labels), int)
    for epoch in range(5):
        np.add.at(shown, order(7, epoch), 1)
        counts = np.bincount(labels, weights=shown)[np.unique(labels)]
        assert counts.max() - counts.min() <= 1
        for label in np.unique(labels):
            assert np.ptp(shown[labels == label]) <= 1


def test_the_order_follows_from_seed_and_epoch():
    labels = np.array([0] * 50 + [1] * 5)
    order = BalancedOrder(labels)
    np.testing.assert_array_equal(order(0, 3), BalancedOrder(labels)(0, 3))
    assert order(0, 3).tolist() != order(0, 4).tolist()
    assert order(0, 3).tolist() != order(1, 3).tolist()


@given(_LABELS)
def test_weights_share_the_loss_equally(labels):
    weights = class_weights(labels, 6)
    per_class = np.bincount(labels, weights=weights[labels], minlength=6)
    present = np.unique(labels)
    np.testing.assert_allclose(per_class[present], len(labels) / len(present))
    np.testing.assert_allclose(weights[labels].mean(), 1)
    assert weights[5] == 0


def test_several_labels_cannot_be_balanced():
    several = np.ones((3, 2), dtype=bool)
    for made in (BalancedOrder, lambda labels: class_weights(labels, 2)):
        with pytest.raises(UserError, match="single label"):
            made(several)
