"""Checkpoints are written while a run goes on; what goes wrong there is said by the run."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from normfree.errors import UserError
from normfree.train.cadence import Cadence
from normfree.train.checkpoint import list_checkpoints, read_checkpoint
from normfree.train.components import Loop
from normfree.train.fit import fit
from normfree.train.keeping import NO_MARK
from normfree.train.loop import train_loop
from normfree.train.rewind import rewind
from normfree.train.run import Run
from normfree.train.runtime import Runtime
from normfree.train.store import LocalStore, Writable
from normfree.train.writer import CheckpointWriter
from tests.unit.train.tiny import assert_same_bits, final_state, timeless_metrics, tiny_recipe


class Held(LocalStore):
    """A directory that writes nothing until it is let."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.let = threading.Event()

    @contextmanager
    def writing(self, step: int, name: str) -> Iterator[Writable]:
        assert self.let.wait(60)
        with super().writing(step, name) as file:
            yield file


class Full(LocalStore):
    """A directory on a disk without room from a step on."""

    @contextmanager
    def writing(self, step: int, name: str) -> Iterator[Writable]:
        with super().writing(step, name) as file:
            yield file
            if step >= 4:
                raise OSError(28, "No space left on device")


def content(w: torch.Tensor) -> dict[str, Any]:
    return {"config": {}, "state": {"w": w}}


def test_a_copy_is_written_while_the_weights_change(tmp_path: Path) -> None:
    store, w = Held(tmp_path), torch.zeros(1000)
    writer = CheckpointWriter(store, Runtime(device="cpu"), Loop())
    with writer.closing():
        writer.save(content(w), step=1, mark=NO_MARK)
        w += 1  # while nothing is written yet
        writer.check()
        assert store.steps() == []
        store.let.set()
        writer.save(content(w), step=2, mark=NO_MARK)
        w += 1
    for step in (1, 2):
        saved = read_checkpoint(tmp_path / f"step-0000000{step}")["state"]["w"]
        assert torch.equal(saved, torch.full((1000,), float(step - 1)))


def test_a_failed_write_is_said_at_the_next_look(tmp_path: Path) -> None:
    store = Full(tmp_path)
    writer = CheckpointWriter(store, Runtime(device="cpu"), Loop(keep_checkpoints=1))
    for step in (3, 4):
        writer.save(content(torch.zeros(3)), step=step, mark=NO_MARK)
    assert writer._pending is not None
    writer._pending.exception()  # it is over
    with pytest.raises(UserError, match="step 4 cannot be written"):
        writer.check()
    with writer.closing():
        pass
    assert store.steps() == [3]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_run_ends_with_the_error_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tiny_recipe(tmp_path / "whole"))
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("normfree.train.store.LocalStore", Full)
        with pytest.raises(UserError, match=r"step 4 .*No space left on device.*--resume"):
            fit(tiny_recipe(out))
    assert final_state(out)[".step"] == 3
    fit(tiny_recipe(out, resume=True))
    assert_same_bits(final_state(tmp_path / "whole"), final_state(out))
    assert timeless_metrics(tmp_path / "whole") == timeless_metrics(out)


def limited(megabytes: float) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 2**20),) * 2)


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of files")
def test_a_file_that_may_not_grow_further_is_one_line(tmp_path: Path) -> None:
    words = ["train", "digits", "--data", "synthetic:64x8x1x5", "--model", "nfnet_pico"]
    limit = ["--steps", "3", "--batch-size", "24", "--checkpoint-every", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "normfree", *words, *limit, "--out", str(tmp_path / "run")],
        preexec_fn=lambda: limited(0.25),
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "step 1 cannot be written" in done.stderr
    assert "File too large" in done.stderr
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_place_that_is_no_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        fit(tiny_recipe(tmp_path / "run", checkpoint_dir=str(tmp_path / "file")))


def test_rewound_a_run_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tiny_recipe(tmp_path / "whole"))
    runs: list[Run] = []

    def twice(run: Run) -> None:
        runs.append(run)
        train_loop(run)
        newest = list_checkpoints(run.files.directory.checkpoints)
        for path in newest[4:]:
            (path / "XXH128SUMS").unlink()
        assert len(rewind(run)) == 4
        assert run.state.step == 4
        assert max(line["step"] for line in timeless_metrics(tmp_path / "run")) == 4
        train_loop(run)

    monkeypatch.setattr("normfree.train.fit.train_loop", twice)
    fit(tiny_recipe(tmp_path / "run"))
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "run"))
    assert timeless_metrics(tmp_path / "whole") == timeless_metrics(tmp_path / "run")


def test_without_a_checkpoint_there_is_nowhere_to_rewind_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("normfree.train.fit.train_loop", rewind)
    with pytest.raises(UserError, match=r"no checkpoint in .* to go back to"):
        fit(tiny_recipe(tmp_path / "run"))


def test_how_often_is_said_by_steps_epochs_or_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(name: str, **settings: Any) -> list[int]:
        fit(tiny_recipe(tmp_path / name, **settings))
        checkpoints = list_checkpoints(tmp_path / name / "checkpoints")
        return [int(path.name.removeprefix("step-")) for path in checkpoints]

    rarely = {"checkpoint_every": 100, "checkpoint_epochs": 100}
    assert saved("steps", **{**rarely, "checkpoint_every": 3}) == [3, 6, 8]
    assert saved("epochs", **{**rarely, "checkpoint_epochs": 2}) == [5, 8]
    assert saved("last", **rarely) == [8]
    looks = iter(range(1000))  # at the clock: one after each step, two at a checkpoint
    slow = partial(Cadence, clock=lambda: 10.0 * next(looks))
    monkeypatch.setattr("normfree.train.loop.Cadence", slow)
    assert saved("minutes", **rarely, checkpoint_minutes=0.5) == [3, 6, 8]


def test_the_best_and_those_of_some_epochs_stay(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(tiny_recipe(out, keep_checkpoints=1, keep_best=1, epochs=6, checkpoint_every=100))
    epochs = [line for line in timeless_metrics(out) if line["kind"] == "epoch"]
    best = max(epochs, key=lambda line: (line["val_top1_ema"], line["step"]))
    kept = {int(path.name.removeprefix("step-")) for path in list_checkpoints(out / "checkpoints")}
    assert kept == {best["step"], 16}


LONGER: dict[str, Any] = {"schedule": "step", "step_epochs": 1.0, "step_decay": 0.5}


def test_a_finished_run_is_extended_to_the_bits_of_a_longer_one(tmp_path: Path) -> None:
    fit(tiny_recipe(tmp_path / "long", **LONGER, epochs=5))
    out = tmp_path / "run"
    fit(tiny_recipe(out, **LONGER))
    extended = tiny_recipe(out, **LONGER, resume=True, extend_to=5)
    assert fit(extended).steps == 13
    whole, longer = final_state(tmp_path / "long"), final_state(out)
    weights = [name for name in whole if name.startswith((".model", ".ema", ".optimizer"))]
    assert_same_bits({n: whole[n] for n in weights}, {n: longer[n] for n in weights})
    assert fit(extended.override(extend_to=None, epochs=5)).steps == 13  # it has that length now


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"extend_to": 5, "resume": True}, "does not go with --schedule cosine"),
        ({**LONGER, "extend_to": 2, "resume": True}, "the run has 3 epochs already"),
        ({**LONGER, "extend_to": 5}, "give --resume, too"),
        ({**LONGER, "epochs": 5, "resume": True}, "epochs: 3 → 5"),
    ],
)
def test_what_cannot_be_extended_is_said(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    schedule = {key: value for key, value in settings.items() if key in LONGER}
    fit(tiny_recipe(tmp_path / "run", **schedule))
    with pytest.raises(UserError, match=said):
        fit(tiny_recipe(tmp_path / "run", **settings))
