from __future__ import annotations

import dataclasses
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import normfree
from normfree.errors import UserError
from normfree.weights import ModelCard, describe, load_model, plain_card, read_card
from tests.unit.weights.files import pico

#: As version 0.1.0 wrote it, before cards had a format.
OLD = {
    "normfree": "0.1.0",
    "recipe": "digits",
    "data": "digits",
    "classes": ["a", "b", "c", "d", "e"],
    "mean": [80.0],
    "std": [96.0],
    "test_size": 8,
    "test_margin": 0,
    "test_crop": "resize_crop",
    "resize": "bicubic, both sides to test_size + test_margin, then the centre test_size",
    "loss": "softmax",
    "metrics": {"kind": "epoch", "step": 3, "test_top1": 0.5, "test_top5": None},
}


def file(directory: Path, card: Any, **fields: Any) -> Path:
    """Weights of a network for grayscale images and five classes, with a card."""
    model = pico(in_channels=1)
    if isinstance(card, dict) and "model" not in card:
        config = dataclasses.asdict(model.config) | fields
        card = {**card, "model": config}
    path = directory / "model.safetensors"
    text = card if isinstance(card, str) else json.dumps(card)
    save_file(model.state_dict(), path, metadata={"normfree": text})
    return path


def test_a_card_is_read_as_it_was_written() -> None:
    card = describe(pico(), OLD | {"mean": [1.0] * 3, "std": [2.0] * 3, "loss": "sigmoid"})
    assert read_card(card.to_json()) == read_card(plain_card(card)) == card
    assert json.loads(card.to_json())["format"] == 1


def test_older_cards_still_load(tmp_path: Path) -> None:
    predictor = normfree.load(file(tmp_path, OLD))
    assert (predictor.classes, predictor.card.format) == (tuple("abcde"), 1)
    older = {k: v for k, v in OLD.items() if k not in ("test_crop", "loss")}
    assert normfree.load(file(tmp_path, older)).card.loss == "softmax"
    unfinished = json.dumps(OLD | {"model": dataclasses.asdict(pico(in_channels=1).config)})
    unfinished = unfinished.replace('"test_top1": 0.5', '"test_top1": NaN')  # json.dumps writes NaN
    assert normfree.load(file(tmp_path, unfinished)).card.metrics["test_top1"] is None


def test_a_later_format_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="format should be less than or equal to 1; got 2"):
        normfree.load(file(tmp_path, OLD | {"format": 2}))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a size": ({"test_size": 10**9}, "test_size should be less than or equal to 4096"),
    "a margin": ({"test_margin": -1}, "test_margin should be greater than or equal to 0"),
    "a rule": ({"test_crop": "stretch"}, "test_crop should be 'resize_crop' or 'crop_resize'"),
    "a loss": ({"loss": "hinge"}, "loss should be 'softmax' or 'sigmoid'"),
    "means": ({"mean": [1.0, 2.0]}, "one value for each image channel"),
    "no mean": ({"mean": None}, "mean and std must be given together"),
    "a deviation": ({"std": [0.0]}, "std must be positive"),
    "classes": ({"classes": list("abcdef")}, "6 classes, but the network has 5 outputs"),
    "a class": ({"classes": [["a"] * 1000] * 5}, "should be a valid string"),
    "many classes": ({"classes": ["a"] * 150_000}, "at most 100000 items"),
    "a long name": ({"classes": ["a" * 10_000]}, "at most 1000 characters"),
    "a deep name": ({"recipe": [[[[[[[]]]]]]]}, "nested too deep"),
    "a wide name": ({"recipe": [[0] * 1000] * 300}, "too many values"),
    "an unknown field": ({"lass": "sigmoid"}, "unknown setting 'lass'; did you mean"),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_a_damaged_card_is_one_short_line(kind: str, tmp_path: Path) -> None:
    fields, message = WRONG[kind]
    path = file(tmp_path, OLD | fields)
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(UserError) as error:
            normfree.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    said = str(error.value)
    assert f"{path} has a damaged card: " in said
    assert message in said
    assert len(said) < 1000
    assert "\n" not in said
    assert time.monotonic() - began < 5
    assert peak < 200e6


NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "classes": ({"num_classes": 20_000_000}, "out of bounds"),
    "blocks": ({"depths": [1, 1, 1, 10**7]}, "out of bounds"),
    "fewer blocks": ({"depths": [1, 1, 1, 900_000]}, "900,003 blocks"),
    "a name": ({"name": ["nfnet_pico"]}, "does not name a network"),
    "nested lists": ({"name": [[[["x"] * 50] * 50] * 50]}, "damaged card"),
    "another name": ({"name": "nfnet_pica"}, "did you mean nfnet_pico"),
    "width": ({"widths": [32, 64, 96, 20_000]}, "does not fit"),
    "width out of bounds": ({"widths": [32, 64, 96, 900_000]}, "widths|channels"),
    "an unknown field": ({"wides": 3}, "unknown field"),
    "a number for a list": ({"widths": 3}, "widths"),
    "many classes": ({"num_classes": 900_000}, "wrong shape classifier"),
}


@pytest.mark.parametrize("read", [normfree.load, load_model])
@pytest.mark.parametrize("kind", list(NETWORKS))
def test_no_memory_is_taken_for_a_network_that_is_not_there(
    kind: str, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, message = NETWORKS[kind]
    path = file(tmp_path, OLD, **fields)
    made: list[int] = []
    empty = torch.empty

    def counted(*size: Any, **on: Any) -> torch.Tensor:
        tensor = empty(*size, **on)
        if not tensor.is_meta:
            made.append(tensor.nbytes)
        return tensor

    monkeypatch.setattr(torch, "empty", counted)
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert len(str(error.value)) < 1000
    assert sum(made) < 1e6


def test_nothing_that_a_card_names_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = Path.open

    def watched(self: Path, *words: Any, **more: Any) -> Any:
        opened.append(str(self))
        return real(self, *words, **more)

    path = file(tmp_path, OLD | {"data": "folder:/etc", "recipe": "/etc/passwd"})
    monkeypatch.setattr(Path, "open", watched)
    monkeypatch.setattr("normfree.data.open_source", None)
    normfree.load(path)
    assert {*opened} == {str(path)}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its card lacks classes, mean, std"):
        normfree.load(file(tmp_path, {"test_size": 8}))


def test_a_card_fits_its_network() -> None:
    with pytest.raises(UserError, match="one value for each image channel"):
        describe(pico(in_channels=1), {"mean": [1.0] * 3, "std": [1.0] * 3})
    card = ModelCard(model={"name": "x"}, test_size=8)
    assert describe(pico(), card).model["name"] == "nfnet_pico"
