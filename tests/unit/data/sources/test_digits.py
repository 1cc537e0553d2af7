from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from normfree.data import open_source
from normfree.errors import UserError


def test_the_splits_share_every_digit_out():
    stored = load_digits()
    train, val = open_source("digits", "train"), open_source("digits", "val")
    ours = np.concatenate([train.pixels, val.pixels])[..., 0]
    expected = np.rint(stored.images * 255 / 16)
    sort = lambda images: images[np.lexsort(images.reshape(len(images), -1).T)]  # noqa: E731
    np.testing.assert_array_equal(sort(ours), sort(expected))
    assert ours.dtype == np.uint8
    assert ours.max() == 255


def test_every_fifth_of_each_class_validates():
    stored = load_digits()
    val = open_source("digits", "val")
    for label in range(10):
        expected = stored.images[stored.target == label][4::5]
        np.testing.assert_array_equal(
            val.pixels[val.labels == label][..., 0], np.rint(expected * 255 / 16)
        )


def test_names():
    val = open_source("digits", "val")
    assert val.classes == tuple("0123456789")
    assert val.channels == 1
    assert val.name(12) == "digits[12]"


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"pip install 'normfree\[demo\]'"):
        open_source("digits", "train")
