"""Real faults in whole runs: what is skipped, what goes back, and what the run comes to."""

from __future__ import annotations

import io
import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from normfree.errors import Interrupted, UserError
from normfree.train.checkpoint import list_checkpoints
from normfree.train.finite import NonFiniteError
from normfree.train.fit import fit
from normfree.train.health.disk import DiskSpace
from normfree.train.progress import Progress
from normfree.train.step import TrainStep
from tests.ranks.faulty import of_recipe, planted
from tests.unit.train.tiny import assert_same_bits, final_state, flat, timeless_metrics, tiny_recipe

STEP = 4  # of 8, from 0, that the fault is planted in


def run(out: Path, **settings: Any) -> str:
    """Train; what it says."""
    said = io.StringIO()
    fit(tiny_recipe(out, **settings), Console(file=said, width=500))
    return said.getvalue()


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that leaves out the batch from the start."""
    out = tmp_path_factory.mktemp("runs") / "without"
    with pytest.MonkeyPatch.context() as patch:
        leaves_out = "normfree.train.health.guards.read_skipped"
        patch.setattr(leaves_out, lambda path: {STEP: "told so"})
        fit(tiny_recipe(out, on_nonfinite="skip"))
    return out


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plants a fault in some steps."""

    def plant(kind: str, *steps: int) -> None:
        recipe = tiny_recipe(Path("unused"))
        planted(kind, of_recipe(recipe, steps), monkeypatch.setattr)

    return plant


def assert_same_run(a: Path, b: Path) -> None:
    assert_same_bits(final_state(a), final_state(b))
    assert timeless_metrics(a) == timeless_metrics(b)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_a_bad_batch_leaves_no_trace(
    action: str, kind: str, fault: Any, without: Path, tmp_path: Path
) -> None:
    fault(kind, STEP)
    said = run(tmp_path / "run", on_nonfinite=action, checkpoint_every=3)
    assert_same_run(tmp_path / "run", without)
    reasons = json.loads((tmp_path / "run" / "skipped_steps.json").read_text())
    assert list(reasons) == [str(STEP)]
    assert ("the loss is nan" in said) == ("the loss is nan" in reasons[str(STEP)])
    assert "the gradients of " in reasons[str(STEP)]
    if action == "skip":
        assert f"step {STEP} is not taken: {reasons[str(STEP)]} (1 of at most 20 left out)" in said
    else:
        assert f"back to step 3, and on without the batch of step {STEP}" in said
    assert timeless_metrics(tmp_path / "run")[-1]["step"] == 8
    assert [x["skipped"] for x in timeless_metrics(tmp_path / "run") if x["kind"] == "train"] == [
        *(0, 0, 1, 1)
    ]


def test_a_run_without_a_checkpoint_yet_goes_back_to_its_start(fault: Any, tmp_path: Path) -> None:
    fault("loss", 0)
    said = run(tmp_path / "run", on_nonfinite="rewind", checkpoint_every=100)
    assert "back to step 0, and on without the batch of step 0" in said


def test_batch_statistics_are_as_before_a_step_that_is_refused(
    fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, compared = TrainStep.__call__, []

    def copied(state: Any) -> dict[str, Any]:
        parts = {"model": state.model, "optimizer": state.optimizer, "ema": state.ema}
        saved = {name: part.state_dict() for name, part in parts.items()}
        return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in flat(saved).items()}

    def observed(self: TrainStep, micro_batches: Any) -> Any:
        step, before = self.state.step, copied(self.state)
        output = real(self, micro_batches)
        if step == STEP:
            assert output.images == 0
            after = copied(self.state)
            for saved in (before, after):  # the rate is set before a step, whatever comes of it
                for name in [name for name in saved if name.endswith(".lr")]:
                    del saved[name]
            assert_same_bits(before, after)
            compared.append(step)
        return output

    fault("gradient", STEP)
    monkeypatch.setattr(TrainStep, "__call__", observed)
    run(
        tmp_path / "run",
        on_nonfinite="skip",
        model="bn_resnet50",
        model_options={"widths": [16, 32, 32, 32], "depths": [1, 1, 1, 1]},
        accumulate=2,
    )
    assert compared == [STEP]


@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_a_resumed_run_leaves_out_the_same_batches(
    action: str, fault: Any, without: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        planted("loss", of_recipe(tiny_recipe(Path("unused")), [STEP]), patch.setattr)
        advance = Progress.advance

        def advance_and_stop(self: Progress) -> None:
            advance(self)
            if self.step == 6:
                signal.raise_signal(signal.SIGTERM)

        patch.setattr(Progress, "advance", advance_and_stop)
        with pytest.raises(Interrupted):
            run(out, on_nonfinite=action, checkpoint_every=1)
    for path in list_checkpoints(out / "checkpoints")[-3:]:
        shutil.rmtree(path)  # so that it resumes before the step, whose fault does not come again
    run(out, on_nonfinite=action, resume=True)
    assert_same_run(out, without)


@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_too_many_bad_batches_end_the_run(action: str, fault: Any, tmp_path: Path) -> None:
    fault("loss", 3, 4, 5)
    with pytest.raises(NonFiniteError, match=r"at step 5 .*--max-skipped-in-a-row is 2"):
        run(tmp_path / "row", on_nonfinite=action, max_skipped_in_a_row=2)
    with pytest.raises(NonFiniteError, match=r"at step 4 .*--max-skipped is 1"):
        run(tmp_path / "all", on_nonfinite=action, max_skipped=1)


@pytest.mark.parametrize("action", ["stop", "skip", "rewind"])
def test_a_learning_rate_that_is_not_finite_ends_the_run(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainStep.__call__

    def broken(self: TrainStep, micro_batches: Any) -> Any:
        schedule = self.schedule
        object.__setattr__(self, "schedule", lambda s: math.inf if s == STEP else schedule(s))
        try:
            return real(self, micro_batches)
        finally:
            object.__setattr__(self, "schedule", schedule)

    monkeypatch.setattr(TrainStep, "__call__", broken)
    with pytest.raises(NonFiniteError):
        run(tmp_path / "run", on_nonfinite=action, checkpoint_every=2, max_skipped_in_a_row=1)
    assert final_state(tmp_path / "run")[".step"] == STEP


def test_a_run_that_stops_says_what_was_not_finite(fault: Any, tmp_path: Path) -> None:
    fault("gradient", STEP)
    with pytest.raises(NonFiniteError) as caught:
        run(tmp_path / "run", log_every=1)
    said = str(caught.value)
    assert f"the gradient is not finite at step {STEP} (the gradients of " in said
    assert "learning rate 0.0" in said
    assert "--resume --on-nonfinite skip" in said


def test_and_goes_on_as_it_says(fault: Any, without: Path, tmp_path: Path) -> None:
    fault("loss", STEP)
    out = tmp_path / "run"
    with pytest.raises(NonFiniteError, match=rf"the loss is not finite at step {STEP} \("):
        run(out)
    run(out, resume=True, on_nonfinite="skip")
    assert_same_run(out, without)


def test_memory_that_is_not_enough_is_an_error_with_numbers(fault: Any, tmp_path: Path) -> None:
    fault("memory", STEP)
    with pytest.raises(UserError) as caught:
        run(tmp_path / "run")
    said = str(caught.value)
    assert said.startswith("out of memory on cpu with 24 images of 8 × 8 pixels at a time (asked")
    for flag in ("--accumulate 2", "--precision bfloat16", "--activation-checkpointing"):
        assert flag in said
    assert "--batch-size 12" in said
    assert final_state(tmp_path / "run")[".step"] == STEP


def test_a_disk_that_fills_up_ends_the_run_with_a_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([10.0] * 3 + [2.0, 2.0, 2.0] + [1.2] * 20)
    monkeypatch.setattr(
        "normfree.train.health.disk._free_bytes", lambda path: int(next(free) * needed)
    )
    needed = 0
    init = DiskSpace.__init__

    def noted(self: DiskSpace, *args: Any, **settings: Any) -> None:
        nonlocal needed
        init(self, *args, **settings)
        needed = self.needed

    monkeypatch.setattr(DiskSpace, "__init__", noted)
    with pytest.raises(UserError, match=r"the disk is nearly full: .* step (\d) is saved"):
        run(tmp_path / "run", checkpoint_every=100, log_every=1)
    assert final_state(tmp_path / "run")[".step"] > 0


def test_a_loss_spike_is_said_once_or_goes_back(fault: Any, tmp_path: Path) -> None:
    settings = {"steps": 30, "log_every": 1, "checkpoint_every": 5}
    recipe = tiny_recipe(Path("unused"), **settings)
    with pytest.MonkeyPatch.context() as patch:
        planted("spike", of_recipe(recipe, [26]), patch.setattr)
        said = run(tmp_path / "warned", **settings)
        assert said.count("warning: the loss of step 26 is ") == 1
        said = run(tmp_path / "back", on_loss_spike="rewind", **settings)
    assert "back to step 26, and on without the batch of step 26" in said
    assert list(json.loads((tmp_path / "back" / "skipped_steps.json").read_text())) == ["26"]
