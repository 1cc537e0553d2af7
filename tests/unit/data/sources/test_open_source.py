from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from normfree.data import ArraySource, Source, open_source, source_names
from normfree.errors import UserError

DATA = Path(__file__).parents[3] / "data"


@pytest.mark.parametrize("spec", ["digits", "synthetic:80", "idx", "folder"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_source_keeps_the_contract(spec, split, folder):
    spec = {"idx": f"idx:{DATA}/fashion_mnist_subset", "folder": f"folder:{folder}"}.get(spec, spec)
    source = open_source(spec, split)
    assert isinstance(source, Source)
    assert len(source) == len(source.labels) > 0
    assert source.labels.dtype == np.int64
    assert 0 <= source.labels.min() <= source.labels.max() < len(source.classes)
    assert len(set(source.classes)) == len(source.classes)
    image = source.image(len(source) - 1)
    assert image.dtype == np.uint8
    assert image.shape[2] == source.channels
    assert len({source.name(index) for index in range(len(source))}) == len(source)
    if isinstance(source, ArraySource):
        several = source.images(np.array([2, 0, 2]))
        np.testing.assert_array_equal(several, [source.image(index) for index in (2, 0, 2)])


def test_the_names_are_the_sources():
    assert {name.partition(":")[0] for name in source_names()} == {
        "digits",
        "folder",
        "idx",
        "synthetic",
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("synthetik:12", "unknown source 'synthetik'; did you mean synthetic"),
        ("imagenet", "unknown source 'imagenet'; known: digits, folder, idx, synthetic"),
        ("", "unknown source"),
        (str(DATA), f"{DATA} is a directory: write folder:{DATA}"),
        ("idx", "write idx:DIR"),
        ("folder:", "write folder:DIR"),
        ("digits:3", "write digits"),
    ],
)
def test_descriptions_that_are_wrong(spec, message):
    with pytest.raises(UserError, match=message):
        open_source(spec, "train")
