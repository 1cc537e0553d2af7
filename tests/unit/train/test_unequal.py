"""Runs on classes of unequal size, on shards, on a chosen part that validates, and on bytes."""

from __future__ import annotations

import csv
import io
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from normfree import load
from normfree.data import open_source
from normfree.errors import Interrupted, UserError
from normfree.nn.loss import class_weighted, sigmoid_cross_entropy, soft_labels
from normfree.train.build import build_state, build_step
from normfree.train.build_reader import build_plan, build_reader
from normfree.train.fit import fit
from normfree.train.init import new_model
from normfree.train.order import build_order
from normfree.train.progress import Progress
from normfree.train.resolve import resolve
from normfree.train.sources import open_sources
from tests.unit.data.sources.test_wds import cache, write_shard  # noqa: F401
from tests.unit.train.tiny import assert_same_bits, final_state, timeless_metrics, tiny_recipe

PHOTOGRAPHS: dict[str, Any] = {
    **{"augment": "crop_flip", "train_size": 16, "test_size": 16, "batch_size": 16},
    **{"epochs": 2, "checkpoint_every": 1000, "eval_every": 2},
}


@pytest.fixture
def table(tmp_path: Path) -> str:
    """60 cats, 12 dogs, 8 emus, and four of each to validate; wide, for the filter to matter."""
    rng = np.random.default_rng(0)
    with (tmp_path / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for split, counts in (("train", (60, 12, 8)), ("val", (4, 4, 4))):
            for name, count in zip(("cat", "dog", "emu"), counts, strict=True):
                for number in range(count):
                    path = f"{split}-{name}-{number}.png"
                    pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(tmp_path / path)
                    rows.writerow([path, name, split])
    return f"csv:{tmp_path}/list.csv"


@pytest.fixture
def shards(table: str, tmp_path: Path) -> str:
    """The same training and validation images in tar files, as they come."""
    (tmp_path / "shards").mkdir()
    order = np.random.default_rng(1).permutation(80)
    files = np.array(sorted(tmp_path.glob("train-*.png")), dtype=object)[order]
    parts = [*np.split(files, [11, 30, 50]), sorted(tmp_path.glob("val-*.png"))]
    names = ["train-0", "train-1", "train-2", "train-3", "val-0"]
    for part, name in zip(parts, names, strict=True):
        write_shard(
            tmp_path / "shards" / f"{name}.tar",
            [
                member
                for file in part
                for member in (
                    (file.name, file.read_bytes()),
                    (f"{file.stem}.cls", file.name.split("-")[1].encode()),
                )
            ],
        )
    return f"wds:{tmp_path}/shards/*.tar"


def interrupted(recipe: Any, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a step is done."""
    advance = Progress.advance

    def advance_and_stop(self: Progress) -> None:
        advance(self)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", advance_and_stop)
        with pytest.raises(Interrupted):
            fit(recipe)


@pytest.mark.parametrize("balance", ["sampler", "weights"])
def test_a_balanced_run_goes_on_to_the_same_bits(
    balance: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**PHOTOGRAPHS, "data": table, "balance": balance, "mixing": "mixup_cutmix"}
    fit(tiny_recipe(tmp_path / "whole", **settings))
    parted = tiny_recipe(tmp_path / "parted", workers=1, **settings)
    interrupted(parted, 3, monkeypatch)
    fit(parted.override(resume=True, workers=0))
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "parted"))
    assert timeless_metrics(tmp_path / "whole") == timeless_metrics(tmp_path / "parted")
    assert f"balance: {balance}" in (tmp_path / "whole/config.yaml").read_text()
    with pytest.raises(UserError, match=f"balance: {balance} → none"):
        fit(parted.override(resume=True, balance="none"))


def test_the_sampler_shows_each_class_equally_often(table: str, tmp_path: Path) -> None:
    settings = {**PHOTOGRAPHS, "data": table, "balance": "sampler", "epochs": 3}
    recipe = tiny_recipe(tmp_path, **settings)
    sources = open_sources(table)
    resolved = resolve(recipe, *sources)
    shown = [batch.labels for batch in build_reader(resolved, sources).train(0)]
    counts = torch.cat(shown).bincount()
    assert counts.tolist() == [80, 80, 80]


def test_the_weights_are_of_each_example_and_in_the_table(table: str, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    fit(tiny_recipe(tmp_path / "run", **{**PHOTOGRAPHS, "data": table}, balance="weights"), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.444 to 3.33 in the loss, by class" in said  # 80 / (3 · 60), 80 / (3 · 8)


def test_any_micro_batches_have_the_weighted_gradient(table: str, tmp_path: Path) -> None:
    sources, gradients = open_sources(table), []
    for accumulate in (1, 3):
        settings = {**PHOTOGRAPHS, "data": table, "balance": "weights", "accumulate": accumulate}
        settings |= {"mixing": "mixup", "label_smoothing": 0.2, "sam_rho": 0.05}
        resolved = resolve(tiny_recipe(tmp_path, **settings), *sources)
        state = build_state(resolved, new_model(resolved.model, resolved.classes, None, seed=0)[0])
        step = build_step(resolved, state)
        batches = build_reader(resolved, sources).train(0)
        found = step([next(batches) for _ in range(accumulate)])
        gradients.append((found.loss, [p.grad for p in state.model.parameters()]))
    (loss, one), (again, three) = gradients
    torch.testing.assert_close(loss, again)
    for left, right in zip(one, three, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def test_the_equation_of_weights() -> None:
    labels, mixed = torch.tensor([0, 2, 1]), torch.tensor([2, 2, 0])
    ratio = torch.tensor([0.25, 0.5, 1.0])
    targets = soft_labels(labels, 4, 0.1, mix_labels=mixed, ratio=ratio)
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 1.0, 4.0])
    found = class_weighted(sigmoid_cross_entropy, weights, 0.1)(logits, targets)
    wanted = ratio * weights[labels] + (1 - ratio) * weights[mixed]
    torch.testing.assert_close(found, wanted * sigmoid_cross_entropy(logits, targets))


def test_shards_are_read_in_their_order_and_resumed(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**PHOTOGRAPHS, "data": shards, "order": "shards", "shard_lanes": 2}
    settings |= {"shard_window": 8}
    fit(tiny_recipe(tmp_path / "whole", **settings))
    parted = tiny_recipe(tmp_path / "parted", workers=2, **settings)
    interrupted(parted, 7, monkeypatch)
    fit(parted.override(resume=True, workers=1))
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "parted"))

    sources = open_sources(shards)
    resolved = resolve(tiny_recipe(tmp_path, **settings), *sources)
    train = sources.train
    plan = build_plan(resolved, order=build_order(resolved.recipe.data, train))
    lanes = []
    for epoch in range(3):
        read = np.concatenate([plan.step(5 * epoch + k)[0].indices for k in range(5)])
        assert sorted(read) == list(range(80))  # each example once
        lanes.append(train.shard[read[0::2]])
    for shard in lanes:
        assert len(set(shard[:8].tolist())) <= 2  # a window lies in neighbors
    assert lanes[0].tolist() != lanes[1].tolist()


def test_what_no_order_can_be(shards: str, table: str, tmp_path: Path) -> None:
    tiny = tiny_recipe(tmp_path / "run", **PHOTOGRAPHS)
    with pytest.raises(UserError, match="can be read in any order: leave it out"):
        fit(tiny.override(data=table, order="shards"))
    with pytest.raises(UserError, match="--balance sampler has an order of its own"):
        tiny.override(data=shards, order="shards", balance="sampler")
    several = tmp_path / "several.csv"
    several.write_text("path,labels\n" + "".join(f"{n}.png,a|b\n" for n in range(40)))
    for balance in ("sampler", "weights"):
        with pytest.raises(UserError, match=f"--balance {balance} is for images of one class"):
            fit(tiny.override(data=f"csv:{several}", balance=balance, loss="sigmoid"))
    assert not (tmp_path / "run").exists()


def test_filter_and_bytes_are_the_runs_and_its_weights(table: str, tmp_path: Path) -> None:
    results = {}
    for resize, dtype in (("tensorflow", "float32"), ("bicubic", "float32"), ("bicubic", "uint8")):
        out, settings = tmp_path / f"{resize}-{dtype}", {**PHOTOGRAPHS, "epochs": 1}
        fit(tiny_recipe(out, **settings, data=table, resize=resize, image_dtype=dtype))
        transform = load(out).transform
        assert (transform.resize, transform.dtype) == (resize, dtype)
        results[resize, dtype] = final_state(out)[".model.stem.conv0.weight"]
    first, *others = results.values()
    assert not any(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("kind", ["folder", "jsonl"])
def test_the_part_that_validates_is_chosen_and_saved(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"images/{name}/{number}.png")
            lines.append(f'{{"path": "{name}/{number}.png", "label": "{name}"}}')
    (tmp_path / "images" / "list.jsonl").write_text("\n".join(lines))
    spec = (
        f"folder:{tmp_path}/images" if kind == "folder" else f"jsonl:{tmp_path}/images/list.jsonl"
    )
    parts = {s: open_source(spec, s, val_fraction=0.3) for s in ("train", "val")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 28, "val": 12}
    names = [{part.name(index) for index in range(len(part))} for part in parts.values()]
    assert not names[0] & names[1]
    settings = {**PHOTOGRAPHS, "batch_size": 8, "epochs": 1, "data": spec, "val_fraction": 0.3}
    result = fit(tiny_recipe(tmp_path / "run", **settings))
    assert load(result.directory).card.val_fraction == 0.3
    assert "val_fraction: 0.3" in (tmp_path / "run/config.yaml").read_text()
    with pytest.raises(UserError, match="between 0 and 1"):
        open_source(spec, "train", val_fraction=1.0)
