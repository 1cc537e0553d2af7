"""Processes that are stopped, killed and resumed end with the bits of one that never was."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.command import normfree, normfree_until
from tests.unit.train.tiny import assert_same_bits, final_state, timeless_metrics

# 22 steps on the real digits; a report after each, so that there is a line to wait for.
DIGITS = [
    *("train", "digits", "--epochs", "2", "--batch-size", "128", "--warmup-epochs", "0.5"),
    *("--device", "cpu"),
    *("--log-every", "1", "--checkpoint-every", "3", "--keep-checkpoints", "2"),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("e2e") / "undisturbed"
    result = normfree(*DIGITS, "--out", out)
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("total steps", "epoch 2/2", "EMA", "images/s", "left", "model.safetensors"):
        assert part in result.stdout
    return out


def assert_same_run(a: Path, b: Path) -> None:
    assert_same_bits(final_state(a), final_state(b))
    assert timeless_metrics(a) == timeless_metrics(b)
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


def test_the_same_command_gives_the_same_bits(undisturbed: Path, tmp_path: Path) -> None:
    assert normfree(*DIGITS, "--out", tmp_path / "again").returncode == 0
    assert_same_run(undisturbed, tmp_path / "again")


@pytest.mark.parametrize(
    ("signum", "step"), [(signal.SIGTERM, 1), (signal.SIGINT, 12), (signal.SIGUSR1, 6)]
)
def test_asked_to_stop_it_saves_the_step_and_says_how_to_go_on(
    signum: int, step: int, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, errors = normfree_until(f"step {step}/", signum, *DIGITS, "--out", out)
    assert code == 128 + signum
    assert f"stopped by {signal.Signals(signum).name} after step " in errors
    assert f"normfree train --resume --out {out}" in errors
    assert errors.count("\n") == 1

    assert normfree("train", "--resume", "--out", out).returncode == 0
    assert_same_run(undisturbed, out)


@pytest.mark.parametrize("step", [2, 16])
def test_killed_it_goes_on_from_the_last_checkpoint(
    step: int, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, _ = normfree_until(f"step {step}/", signal.SIGKILL, *DIGITS, "--out", out)
    assert code == -signal.SIGKILL
    result = normfree("train", "--resume", "--out", out)
    assert (result.returncode, result.stderr) == (0, "")
    saved = step // 3 * 3
    assert any(f"going on after step {s} of 22" in result.stdout for s in range(saved, 22))
    assert_same_run(undisturbed, out)


def test_stopped_twice(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    normfree_until("step 4/", signal.SIGKILL, *DIGITS, "--out", out)
    code, _ = normfree_until("step 9/", signal.SIGTERM, "train", "--resume", "--out", out)
    assert code == 128 + signal.SIGTERM
    assert normfree("train", "--resume", "--out", out).returncode == 0
    assert_same_run(undisturbed, out)


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs a second core for its readers")
@pytest.mark.parametrize(
    ("signum", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)], ids=["kill", "Ctrl-C"]
)
def test_photographs_read_by_worker_processes_resume_too(
    signum: int, group: bool, photographs: Path, tmp_path: Path
) -> None:
    words = [
        *("train", "folder", "--data", f"folder:{photographs}", "--model", "nfnet_pico"),
        *("--train-size", "16", "--test-size", "16", "--epochs", "2", "--batch-size", "4"),
        *("--log-every", "1", "--device", "cpu"),
    ]
    assert normfree(*words, "--out", tmp_path / "whole").returncode == 0
    out = tmp_path / "parts"
    stopped = normfree_until("step 3/", signum, *words, "--workers", "2", "--out", out, group=group)
    assert stopped[0] == 128 + signum, stopped
    resumed = normfree("train", "--resume", "--workers", "1", "--out", out)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert_same_run(tmp_path / "whole", out)
