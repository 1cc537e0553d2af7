from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from safetensors.torch import save_file

from normfree.data import open_source
from normfree.errors import UserError
from normfree.inference import load
from normfree.models import ImageClassifier
from normfree.train.build import build_card
from normfree.train.checkpoint import read_checkpoint
from normfree.train.fit import fit
from normfree.train.init import new_model
from normfree.train.resolve import Resolved, resolve
from normfree.weights import load_model, save_model
from normfree.weights.checkpoint_directory import STATE, SUMS, sums_text
from tests.unit.train.tiny import tiny_recipe


def network(out: Path, **changes: object) -> tuple[ImageClassifier, Resolved]:
    recipe = tiny_recipe(out, **changes)
    source = open_source(recipe.data.source, "train")
    resolved = resolve(recipe, source, source)
    return new_model(resolved.model, resolved.classes, None, seed=0)[0], resolved


@pytest.mark.parametrize("changes", [{}, {"channels_last": True, "activation": "silu"}])
def test_the_file_alone_gives_the_same_network(tmp_path: Path, changes: dict[str, object]) -> None:
    model, resolved = network(tmp_path, **changes)
    card = dataclasses.replace(build_card(resolved), metrics={"val_top1": 0.5})
    save_model(model, tmp_path / "model.safetensors", card=card)
    loaded = load(tmp_path / "model.safetensors")

    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32))
    torch.testing.assert_close(loaded.model(x), model.eval()(x))
    assert not loaded.model.training
    assert loaded.model.config == model.config
    assert loaded.card.classes == resolved.classes
    assert loaded.card.mean == resolved.mean
    assert loaded.card.std == resolved.std
    assert (loaded.card.test_size, loaded.card.test_margin) == (8, 0)
    assert loaded.card.metrics == {"val_top1": 0.5}


def test_equal_runs_in_different_places_have_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        model, resolved = network(tmp_path / name)
        save_model(model, tmp_path / f"{name}.safetensors", card=build_card(resolved))
    a, b = (tmp_path / f"{name}.safetensors" for name in ("a", "b"))
    assert a.read_bytes() == b.read_bytes()


def test_what_is_no_network_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match=r"neither model.safetensors nor a checkpoint"):
        load(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(UserError, match="holds no weights that normfree can read"):
        load(tmp_path / "cut.safetensors")
    save_file({"w": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="has weights, but not the card that normfree train"):
        load(tmp_path / "bare.safetensors")


@pytest.mark.parametrize("path", [3, None, b"model.safetensors", ["runs/1"]])
def test_what_is_no_path_is_said(path: Any) -> None:
    for read in (load, load_model):
        with pytest.raises(UserError, match=f"expected the path .* got {type(path).__name__}"):
            read(path)


@pytest.mark.parametrize("card", ["[1]", "null", '"model"'])
def test_a_card_that_is_no_card_is_said(card: str, tmp_path: Path) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "odd.safetensors", {"normfree": card})
    with pytest.raises(UserError, match="has a damaged card"):
        load(tmp_path / "odd.safetensors")


def trained(directory: Path) -> Path:
    """A run that stopped before its first evaluation and has only checkpoints."""
    fit(tiny_recipe(directory / "run", epochs=1, keep_checkpoints=2))
    return directory / "run"


def test_a_run_without_a_model_file_gives_its_newest_checkpoint(tmp_path: Path) -> None:
    run = trained(tmp_path)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    averaged = read_checkpoint(newest)["state"]["ema"]
    (run / "model.safetensors").unlink()
    for path in (run, newest):
        predictor = load(path)
        for name, value in predictor.model.state_dict().items():
            assert torch.equal(value, averaged[name]), name
        assert predictor.card.metrics == {"step": int(newest.stem.split("-")[1])}
    assert load_model(run).config == predictor.model.config


def test_a_checkpoint_from_before_cards(tmp_path: Path) -> None:
    run = trained(tmp_path)
    now = load(sorted((run / "checkpoints").iterdir())[-1])
    content = read_checkpoint(sorted((run / "checkpoints").iterdir())[-1])
    newest = tmp_path / "step-00000002.pt"  # a file, as they were then
    card = content.pop("card")
    assert card["data"] == "synthetic:64x8x1x5"
    content["config"]["recipe"] = {"name": "tiny", "data": card["data"], "loss": "softmax"}
    torch.save(content, newest)
    before = load(newest)
    assert dataclasses.replace(before.card, normfree=now.card.normfree) == now.card
    content["config"]["derived"].pop("mean")
    torch.save(content, newest)
    with pytest.raises(UserError, match="has no preprocessing settings"):
        load(newest)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("format", 99, "not a checkpoint that this version"),
        ("step", -1, "not a checkpoint that this version"),
        ("step", "1", "not a checkpoint that this version"),
        ("config", [], "not a checkpoint that this version"),
        ("state", {"ema": {"w": 1}}, "no averaged weights"),
        ("card", [1], "no card"),
        ("card", {"model": {"name": "nfnet_f7"}}, "damaged card"),
    ],
)
def test_a_crafted_checkpoint_is_one_line(
    part: str, value: object, message: str, tmp_path: Path
) -> None:
    run = trained(tmp_path)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    torch.save(read_checkpoint(newest) | {part: value}, tmp_path / "file.pt")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "file.pt")
    if part != "state":  # whose tensors are elsewhere
        text = json.loads((newest / STATE).read_text()) | {part: value}
        (newest / STATE).write_text(json.dumps(text))
        sums = {x.name: xxhash.xxh3_128(x.read_bytes()).hexdigest() for x in newest.iterdir()}
        sums.pop(SUMS)
        (newest / SUMS).write_bytes(sums_text(sums))
        with pytest.raises(UserError, match=message):
            load(newest)
