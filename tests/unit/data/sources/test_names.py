from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.sources import names as names_module
from normfree.data.sources.names import Names

_LETTERS = st.characters(blacklist_categories=["Cs"]) | st.characters(
    min_codepoint=0xDC80, max_codepoint=0xDCFF
)
_NAMES = st.lists(st.text(_LETTERS, max_size=6))


@given(_NAMES)
def test_names_are_those_of_the_list(texts):
    # What the file system returns: valid sequences of lone surrogates decode to characters.
    texts = [t.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") for t in texts]
    names = Names.of(texts, prefix="in/")
    assert list(names) == [f"in/{text}" for text in texts]
    assert list(names[1:]) == list(names)[1:]
    assert list(pickle.loads(pickle.dumps(names))) == list(names)
    order = names.by_path()
    keys = [tuple(part.encode("utf-8", "surrogateescape") for part in t.split("/")) for t in texts]
    if not any("\0" in text for text in texts):
        assert order.tolist() == sorted(range(len(texts)), key=keys.__getitem__)


@given(_NAMES, st.data())
def test_some_of_the_names(texts, data):
    names = Names.of(texts)
    some = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=9)) if texts else []
    expected = [names[index] for index in some]
    assert list(names.take(np.array(some, dtype=np.int64))) == expected
    before = names_module._CHUNK
    try:
        names_module._CHUNK = 2
        assert list(names.take(np.array(some, dtype=np.int64))) == expected
    finally:
        names_module._CHUNK = before


def test_an_index_that_is_too_large():
    names = Names.of(["a", "b"])
    assert names[-2] == "a"
    for index in (2, -3):
        with pytest.raises(IndexError, match="there are 2 names"):
            names[index]


def test_a_name_takes_its_bytes_and_eight_more():
    names = Names.of([f"{n:06}" for n in range(1000)])
    assert names.blob.nbytes + names.offsets.nbytes == 1000 * (6 + 8) + 8
