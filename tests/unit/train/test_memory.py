from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from normfree.errors import UserError
from normfree.recipes import get_recipe
from normfree.train import memory
from normfree.train.fit import fit
from normfree.train.memory import check_memory, estimate
from normfree.train.recipe import Recipe
from normfree.train.resolve import Resolved, resolve
from normfree.train.sources import open_sources

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def resolved(**settings: Any) -> Resolved:
    recipe = get_recipe("folder").override(data="synthetic:256x32x3x4", **settings)
    return resolve(recipe, *open_sources(recipe.data.source))


def images_of(**settings: Any) -> int:
    return estimate(resolved(model="nfnet_pico", train_size=32, **settings)).image


@pytest.mark.parametrize("batch", [4, 16])
def test_the_estimate_is_near_what_was_measured(batch: int) -> None:
    stored = json.loads((RESULTS / f"2026-11-26_train_nfnet_f0_batch{batch}.json").read_text())
    measured = next(r for r in stored["results"] if r["network"] == "nfnet_f0")["memory_bytes"]
    need = estimate(resolved(model="nfnet_f0", train_size=96, batch_size=batch))
    assert measured / 1.2 < need.total < measured * 1.2


def test_what_saves_memory_is_counted() -> None:
    usual = images_of(batch_size=64)
    assert images_of(batch_size=64, activation_checkpointing=True) < 0.6 * usual
    assert images_of(batch_size=64, precision="bfloat16") < 0.7 * usual
    assert images_of(batch_size=128) == usual
    settings = {"model": "nfnet_pico", "train_size": 32, "batch_size": 64}
    assert estimate(resolved(**settings, accumulate=4)).images == 16
    assert estimate(resolved(**settings), world=2).images == 32
    more = estimate(resolved(**settings, optimizer="adamw", lr=0.1)).weights
    less = estimate(resolved(**settings, ema_decay=0)).weights
    assert more / less == pytest.approx(5 / 3)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> tuple[Resolved, int]:
    """A run, and what a step of it needs."""
    monkeypatch.setattr(memory, "_MOST_PER_PIXEL", 1 << 40)
    run = resolved(model="nfnet_pico", train_size=32, batch_size=256)
    return run, estimate(run).total


@pytest.mark.parametrize(("share", "says"), [(1.2, 0), (1.0, 1), (0.7, 1)])
def test_a_warning_where_it_is_tight(
    large: tuple[Resolved, int], monkeypatch: pytest.MonkeyPatch, share: float, says: int
) -> None:
    run, total = large
    monkeypatch.setattr(memory, "free_memory", lambda: share * total)
    notes = check_memory(run)
    assert len(notes) == says
    assert all("warning: a step of 256 images" in note for note in notes)


def test_what_would_be_killed_is_refused_with_the_accumulation_that_fits(
    large: tuple[Resolved, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, total = large
    monkeypatch.setattr(memory, "free_memory", lambda: total / 3)
    with pytest.raises(UserError, match=r"--accumulate (\d+) computes \d+ at a time") as caught:
        check_memory(run)
    count = int(str(caught.value).partition("--accumulate ")[2].split()[0])
    assert check_memory(run_with(run, accumulate=count)) == []
    assert check_memory(run_with(run, accumulate=count - 1)) != []
    monkeypatch.setattr(memory, "free_memory", lambda: 1000.0)
    with pytest.raises(UserError, match="choose a smaller --model"):
        check_memory(run)


def run_with(run: Resolved, **settings: Any) -> Resolved:
    recipe = run.recipe.override(**settings)
    return resolve(recipe, *open_sources(recipe.data.source))


def test_nothing_is_written_for_a_run_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MOST_PER_PIXEL", 1 << 40)
    monkeypatch.setattr(memory, "free_memory", lambda: 1e6)
    recipe: Recipe = get_recipe("digits").override(out=tmp_path / "run")
    with pytest.raises(UserError, match="are free"):
        fit(recipe)
    assert not (tmp_path / "run").exists()
