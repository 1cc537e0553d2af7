"""Large parts of an object are in memory once, however many processes read it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from normfree.data.share import share, shared


def passed(value):
    sent = share(value)
    try:
        return shared(sent.file, sent.pickle), len(sent.pickle)
    finally:
        sent.close()


def test_an_index_of_many_images_is_not_pickled():
    labels, text = np.arange(20_000), np.zeros(10**7, np.uint8)
    found, size = passed({"text": text, "again": text, "labels": labels, "classes": ("a", "b")})
    assert size < 1000
    assert found["text"].ctypes.data == found["again"].ctypes.data
    np.testing.assert_array_equal(found["labels"], labels)
    assert found["classes"] == ("a", "b")
    with pytest.raises(ValueError, match="read-only"):
        found["labels"][0] = 1


@pytest.mark.parametrize(
    "array",
    [
        np.arange(60_000, dtype=np.int32).reshape(200, 300),
        np.asfortranarray(np.random.default_rng(0).random((200, 300))),
        np.arange(200_000, dtype=np.uint8)[::2],
        np.zeros(5000, dtype=[("offset", "<i8"), ("label", "<i4")]),
        np.zeros((0, 3)),
        np.array([None] * 20_000),
    ],
)
def test_arrays_of_every_kind(array):
    found, _ = passed([array, array])
    for each in found:
        np.testing.assert_array_equal(each, array)
        assert each.dtype == array.dtype


def test_what_cannot_be_pickled_leaves_no_file():
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        share((np.zeros(100_000), lambda: None))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
