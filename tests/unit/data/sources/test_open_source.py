from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from normfree.data import (
    ArraySource,
    Limits,
    Opening,
    Source,
    has_split,
    open_source,
    register_source,
    source_names,
)
from normfree.data.sources import registry
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
        "csv",
        "digits",
        "folder",
        "hf",
        "idx",
        "jsonl",
        "pack",
        "parquet",
        "synthetic",
        "wds",
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("synthetik:12", "unknown source 'synthetik'; did you mean synthetic"),
        (
            "imagenet",
            "unknown source 'imagenet'; known: csv, digits, folder, hf, idx, jsonl, pack, ",
        ),
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


@pytest.mark.parametrize("spec", ["digits", "synthetic:80", f"idx:{DATA}/fashion_mnist_subset"])
def test_sources_without_a_test_split_say_so(spec):
    assert has_split(spec, "train")
    assert has_split(spec, "val")
    assert not has_split(spec, "test")
    with pytest.raises(UserError, match="has no test split: evaluate on val"):
        open_source(spec, "test")


def test_a_registered_source_is_opened_like_any_other(monkeypatch):
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    seen = []

    @register_source("dots", "COLOR", splits=lambda color: ("train", "val", "test"))
    def open_dots(color, split, opening):
        seen.append((color, split, opening))
        return ArraySource(color, np.zeros((2, 1, 1, 1), np.uint8), np.arange(2), ("a", "b"))

    assert "dots:COLOR" in source_names()
    assert len(open_source("dots:red", "test", ["x"], limits=Limits(max_side=7))) == 2
    assert seen == [("red", "test", Opening(classes=("x",), limits=Limits(max_side=7)))]
    with pytest.raises(UserError, match="write dots:COLOR"):
        open_source("dots", "train")
    with pytest.raises(ValueError, match="there is a source 'dots' already"):
        register_source("dots")(open_dots)


@pytest.mark.parametrize(
    "spec", ["x" * 10**6, "~nobody/x", "a\0b", "synthetic:" + "1" * 10**6, "\x1b"]
)
def test_strange_descriptions_end_in_a_short_printable_line(spec):
    with pytest.raises(UserError) as caught:
        open_source(spec, "train")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
