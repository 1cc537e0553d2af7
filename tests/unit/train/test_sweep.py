from __future__ import annotations

import json
from pathlib import Path

import pytest

from normfree.errors import Interrupted, UserError
from normfree.train import sweep as module
from normfree.train.finite import NonFiniteError
from normfree.train.fit import Result
from normfree.train.recipe import Recipe
from normfree.train.sweep import Point, grid, sweep
from tests.unit.train.test_fit import stop_after
from tests.unit.train.tiny import tiny_recipe

POINTS = grid([0.05, 0.1], [0.01])


def test_a_sweep_that_stops_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = tiny_recipe(tmp_path / "unused", epochs=1), tmp_path / "sweep"
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(Interrupted):
            list(sweep(recipe, POINTS, out))
    assert not (out / "sweep.jsonl").exists()
    outcomes = list(sweep(recipe, POINTS, out))
    assert [outcome.point for outcome in outcomes] == POINTS
    assert all(0 <= (outcome.accuracy or -1) <= 1 for outcome in outcomes)
    lines = [json.loads(line) for line in (out / "sweep.jsonl").read_text().splitlines()]
    assert [(line["lr"], line["clipping"]) for line in lines] == [(0.05, 0.01), (0.1, 0.01)]
    monkeypatch.setattr(module, "fit", None)  # whoever trains again fails
    assert list(sweep(recipe, POINTS, out)) == outcomes
    with pytest.raises(UserError, match="sweep of other settings"):
        list(sweep(recipe.override(seed=5), POINTS, out))


def test_a_run_that_diverges_is_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(recipe: Recipe) -> Result:
        raise NonFiniteError("loss", 3)

    monkeypatch.setattr(module, "fit", diverging)
    (outcome,) = sweep(tiny_recipe(tmp_path), [Point(0.1)], tmp_path / "sweep")
    assert outcome.accuracy is None
    assert "not finite" in outcome.said


def test_a_damaged_line_is_said(tmp_path: Path) -> None:
    (tmp_path / "sweep.jsonl").write_text('{"lr": 1}\n')
    with pytest.raises(UserError, match=r"line 1 of .* is damaged"):
        list(sweep(tiny_recipe(tmp_path), POINTS, tmp_path))
