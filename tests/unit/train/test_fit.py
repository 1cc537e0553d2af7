"""Whole runs in this process: what they leave behind, the same bits again, stopping, resuming."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from normfree.analysis.telemetry_file import read_telemetry
from normfree.data.sources.folder import FolderSource
from normfree.errors import Interrupted, UserError
from normfree.inference import load
from normfree.optim.functional import has_units
from normfree.train.checkpoint import list_checkpoints
from normfree.train.finite import NonFiniteError
from normfree.train.fit import _about_data, fit
from normfree.train.progress import Progress
from normfree.train.run import Run
from normfree.train.saved import FORMAT
from normfree.train.sources import Sources
from normfree.train.step import StepOutput, TrainStep
from tests.unit.train.tiny import (
    assert_same_bits,
    damage,
    final_state,
    remove,
    timeless_metrics,
    tiny_recipe,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    fit(tiny_recipe(out))
    return out


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch, signum: int = signal.SIGTERM) -> None:
    advance = Progress.advance

    def advance_and_stop(self: Progress) -> None:
        advance(self)
        if self.step == step:
            signal.raise_signal(signum)

    monkeypatch.setattr(Progress, "advance", advance_and_stop)


def assert_same_run(a: Path, b: Path) -> None:
    assert_same_bits(final_state(a), final_state(b))
    assert timeless_metrics(a) == timeless_metrics(b)
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


def test_a_run_leaves_all_its_files(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        *("config.yaml", "metrics.jsonl", "checkpoints", "model.safetensors", "curves.png"),
        *("last.safetensors", "telemetry.bin", ".lock"),
        *("report.html", "evaluation.json", "environment.json"),
    }
    saved = yaml.safe_load((finished / "config.yaml").read_text())
    assert saved["recipe"]["batch"] == {"size": 24, "accumulate": 1}
    assert saved["format"] == FORMAT
    assert saved["derived"]["total_steps"] == 8
    assert len(list_checkpoints(finished / "checkpoints")) == 8


def test_metrics_have_a_line_per_report_and_per_epoch(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if x["kind"] == "train"] == [2, 4, 6, 8]
    epochs = [x for x in lines if x["kind"] == "epoch"]
    assert [(x["epoch"], x["step"]) for x in epochs] == [(1, 2), (2, 5), (3, 8)]
    for line in epochs:
        for name in ("val_top1", "val_top1_ema", "val_loss", "val_loss_ema", "train_loss"):
            assert line[name] >= 0
    assert lines[0]["lr"] == pytest.approx(0.1 * 24 / 256 * 1 / (0.5 * 64 / 24))


def test_the_same_recipe_gives_the_same_bits(finished: Path, tmp_path: Path) -> None:
    fit(tiny_recipe(tmp_path / "again"))
    assert_same_run(finished, tmp_path / "again")


def test_another_seed_gives_other_bits(finished: Path, tmp_path: Path) -> None:
    fit(tiny_recipe(tmp_path / "other", seed=1))
    weights = ".model.stem.conv0.weight"
    assert not torch.equal(final_state(finished)[weights], final_state(tmp_path / "other")[weights])


def test_what_has_used_torchs_generator_before_does_not_matter(
    finished: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1234)
    torch.rand(7)
    fit(tiny_recipe(tmp_path / "again"))
    assert_same_run(finished, tmp_path / "again")


@pytest.mark.parametrize("step", range(1, 8))
def test_stopped_after_any_step_and_resumed_gives_the_same_bits(
    step: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stopped"
    recipe = tiny_recipe(out, checkpoint_every=1000)
    with monkeypatch.context() as patch:
        stop_after(step, patch)
        with pytest.raises(Interrupted, match=f"SIGTERM after step {step}"):
            fit(recipe)
    assert final_state(out)[".step"] == step

    fit(recipe.override(resume=True))
    assert_same_run(finished, out)


def test_lost_after_its_last_checkpoint_a_run_repeats_what_was_lost(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    fit(tiny_recipe(out))
    for path in list_checkpoints(out / "checkpoints")[4:]:
        remove(path)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # what a kill leaves

    fit(tiny_recipe(out, resume=True))
    assert_same_run(finished, out)


def test_a_run_without_a_checkpoint_yet_starts_again(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "early"
    fit(tiny_recipe(out))
    for path in list_checkpoints(out / "checkpoints"):
        remove(path)
    fit(tiny_recipe(out, resume=True))
    assert_same_run(finished, out)


def test_a_damaged_newest_checkpoint_is_passed_over(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    fit(tiny_recipe(out))
    damage(list_checkpoints(out / "checkpoints")[-1])
    fit(tiny_recipe(out, resume=True))
    assert_same_run(finished, out)


def test_resuming_a_finished_run_changes_nothing(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "done"
    fit(tiny_recipe(out))
    assert fit(tiny_recipe(out, resume=True)).steps == 8
    assert_same_run(finished, out)


def test_a_signal_at_the_last_step_does_not_keep_the_run_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(8, monkeypatch)
    assert fit(tiny_recipe(tmp_path / "run")).steps == 8


def test_other_settings_are_not_resumed(finished: Path) -> None:
    with pytest.raises(UserError, match="epochs: 3 → 4"):
        fit(tiny_recipe(finished, epochs=4, resume=True))


def test_settings_that_change_no_bit_may_change_on_resume(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(tiny_recipe(out))
    fit(tiny_recipe(out, checkpoint_every=5, keep_checkpoints=1, resume=True))
    assert_same_bits(final_state(finished), final_state(out))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_good_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainStep.__call__

    def broken(self: TrainStep, micro_batches: Any) -> StepOutput:
        output = real(self, micro_batches)
        return output._replace(loss=output.loss / (self.state.step != 4))

    monkeypatch.setattr(TrainStep, "__call__", broken)
    with pytest.raises(NonFiniteError, match="the loss is not finite at step 3"):
        fit(tiny_recipe(tmp_path / "run", log_every=100))
    assert final_state(tmp_path / "run")[".step"] == 3


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainStep.__call__

    def broken(self: TrainStep, micro_batches: Any) -> StepOutput:
        output = real(self, micro_batches)
        if self.state.step == 4:
            self.state.model.classifier.bias.data[0] = torch.inf
        return output

    monkeypatch.setattr(TrainStep, "__call__", broken)
    with pytest.raises(NonFiniteError, match=r"classifier.bias is not finite at step 4"):
        fit(tiny_recipe(tmp_path / "run", log_every=100))
    assert final_state(tmp_path / "run")[".step"] == 3


@pytest.mark.parametrize("better", ["raw", "averaged"])
def test_the_model_file_holds_the_better_weights_of_the_best_epoch(
    better: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of the best epochs, and there the weights that did better."""
    scores = {"raw": iter((0.3, 0.5, 0.5)), "averaged": iter((0.4, 0.4, 0.4))}
    if better == "averaged":
        scores["averaged"] = iter((0.5, 0.2, 0.5))
    real = Run.validate

    def scored(self: Run) -> dict[str, Any]:
        found = {"val_top1": next(scores["raw"]), "val_top1_ema": next(scores["averaged"])}
        return real(self) | found

    monkeypatch.setattr(Run, "validate", scored)
    out, said = tmp_path / "run", io.StringIO()
    result = fit(tiny_recipe(out), Console(file=said, width=1000))
    epochs = [line for line in timeless_metrics(out) if line["kind"] == "epoch"]
    wanted = {"raw": ["averaged", "raw", "raw"], "averaged": ["averaged", "raw", "averaged"]}
    assert [line["better"] for line in epochs] == wanted[better]
    assert result.best == 0.5
    predictor = load(out)
    assert predictor.card.metrics["epoch"] == 3
    part = {"raw": ".model.", "averaged": ".ema."}
    kept = {
        name.removeprefix(part[better]): value
        for name, value in final_state(out).items()
        if name.startswith(part[better])
    }
    assert_same_bits(dict(predictor.model.state_dict()), kept)
    other = {"raw": "averaged: 40.00%", "averaged": "raw: 50.00%"}
    assert f"the {better} weights of epoch 3 ({other[better]})" in said.getvalue()
    assert f"<b>{better}, epoch 3</b>" in (out / "report.html").read_text()


def test_the_better_weights_stay_through_an_interruption(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(4, patch)
        with pytest.raises(Interrupted):
            fit(tiny_recipe(tmp_path / "run"))
    fit(tiny_recipe(tmp_path / "run", resume=True))
    again, before = (run / "model.safetensors" for run in (tmp_path / "run", finished))
    assert again.read_bytes() == before.read_bytes()


def test_accumulated_parts_give_the_same_training(finished: Path, tmp_path: Path) -> None:
    fit(tiny_recipe(tmp_path / "parts", accumulate=3))
    whole, parts = final_state(finished), final_state(tmp_path / "parts")
    for name, value in whole.items():
        if name.startswith(".model."):
            torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"channels_last": True}])
def test_other_arithmetic_trains_too(
    changes: dict[str, object], finished: Path, tmp_path: Path
) -> None:
    fit(tiny_recipe(tmp_path / "run", **changes))
    loss = [line["train_loss"] for line in timeless_metrics(finished) if "train_loss" in line]
    other = [
        line["train_loss"] for line in timeless_metrics(tmp_path / "run") if "train_loss" in line
    ]
    assert other == pytest.approx(loss, rel=0.05)


def test_evaluations_can_be_rarer_than_epochs(tmp_path: Path) -> None:
    fit(tiny_recipe(tmp_path / "run", eval_every=2))
    epochs = [line for line in timeless_metrics(tmp_path / "run") if line["kind"] == "epoch"]
    assert ["val_top1" in line for line in epochs] == [False, True, True]


def test_files_that_are_not_used_and_classes_that_are_not_tested_are_said() -> None:
    labels = np.array([0, 1, 2, 0])
    train = FolderSource(("a.jpg",) * 4, labels, ("ant", "bee", "cat"), ignored=2)
    val = FolderSource(("b.jpg",) * 4, labels % 2, train.classes, ignored=1)
    first, second = _about_data(Sources(train, val, None))
    assert first.startswith("3 files ignored")
    assert second.startswith("1 of 3 classes have no validation images")
    assert second.endswith(": cat")
    assert _about_data(Sources(val, train, None)) == [first]


def test_telemetry_follows_the_metrics(finished: Path) -> None:
    history = read_telemetry(finished / "telemetry.bin")
    lines = [line for line in timeless_metrics(finished) if line["kind"] == "train"]
    assert history.steps.tolist() == [line["step"] for line in lines]
    shares = history.column("clipped")
    units = np.array([_units(name, finished) for name in history.layers])
    expected = [line["clipped"] for line in lines]
    counted = ~np.isnan(shares[0])
    mean = (shares[:, counted] * units[counted]).sum(1) / units[counted].sum()
    assert mean.tolist() == pytest.approx(expected, abs=1e-6)
    assert (history.column("update") > 0).any(1).all()


def _units(name: str, run: Path) -> int:
    weight = load(run).model.state_dict()[name]
    return weight.shape[0] if has_units(weight.shape) else 1
