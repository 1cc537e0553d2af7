"""Large parts of an object are in memory once, however many processes read it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.names import Names
from normfree.data.share import share, shared


@given(st.lists(st.text(st.characters(exclude_categories=()))))
def test_names_are_the_strings(strings):
    names = Names.of(strings)
    assert list(names) == strings
    assert len(names) == len(strings)
    assert pickle.loads(pickle.dumps(names))[:] == strings
    assert names[1:] == strings[1:]
    assert [names[-1 - place] for place in range(len(names))] == strings[::-1]
    with pytest.raises(IndexError):
        names[len(strings)]


def test_names_of_files_that_are_not_text():
    name = os.fsdecode(b"cat/\xff\n.jpg")
    assert Names.of([name])[0] == name


def passed(value):
    sent = share(value)
    try:
        return shared(sent.file, sent.pickle), len(sent.pickle)
    finally:
        sent.close()


def test_an_index_of_many_images_is_not_pickled():
    files = tuple(f"train/class {number % 7}/{number:07d}.jpg" for number in range(20_000))
    labels = np.arange(20_000)
    found, size = passed({"files": files, "again": files, "labels": labels, "classes": ("a", "b")})
    assert size < 1000
    assert isinstance(found["files"], Names)
    assert tuple(found["files"]) == files
    assert found["again"] is found["files"] or tuple(found["again"]) == files
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
