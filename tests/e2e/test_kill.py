"""Killed at any moment, also while a checkpoint is written, a run ends with the same bits."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.command import ENVIRONMENT, NORMFREE, normfree
from tests.unit.train.tiny import assert_same_bits, final_state, timeless_metrics

#: Where a kill happens: after a number of steps, or once a file of a checkpoint is there.
FILES = ("", "shard-00000-of-00001.safetensors", "state.json", "XXH128SUMS")


def words(steps: int) -> list[str]:
    """A run of small images; each step is printed and saved."""
    return [
        *("train", "digits", "--data", "synthetic:64x8x1x5", "--model", "nfnet_pico"),
        *("--steps", str(steps), "--warmup-steps", "5", "--batch-size", "24", "--device", "cpu"),
        *("--log-every", "1", "--checkpoint-every", "1", "--mixing", "mixup_cutmix"),
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Runs that were never killed, by their number of steps."""
    root = tmp_path_factory.mktemp("undisturbed")

    def trained(steps: int) -> Path:
        out = root / str(steps)
        if not out.exists():
            assert normfree(*words(steps), "--out", out).returncode == 0
        return out

    return trained


def killed_after(out: Path, steps: int, arguments: list[str]) -> None:
    """Kill the run once it has printed as many steps."""
    with started(arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            steps -= line.startswith("step ")
            if steps == 0:
                break
        process.kill()


def killed_inside(out: Path, file: str, arguments: list[str]) -> None:
    """Kill the run as soon as it writes this file of a checkpoint."""
    with started(arguments) as process:
        while process.poll() is None:
            if any((path / file).exists() for path in unfinished(out)):
                process.kill()
                return


def started(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [NORMFREE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )


def unfinished(out: Path) -> Iterator[Path]:
    return (out / "checkpoints").glob(".unfinished-*")


def check_kills(whole: Path, out: Path, steps: int, kills: int, apart: int, seed: int) -> None:
    """Kill a run as often, in one way after the other, and compare it with another."""
    draw = random.Random(seed)
    inside = 0
    for number in range(kills):
        first = not (out / "config.yaml").exists()
        arguments = [*words(steps), "--out", str(out)] if first else resume(out)
        if number % 2 or first:
            killed_after(out, draw.randint(1, apart), arguments)
        else:
            killed_inside(out, draw.choice(FILES), arguments)
            inside += any(unfinished(out))
    assert inside > 0  # some died while they wrote
    result = normfree(*resume(out))
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert f"of {steps}" in result.stdout
    assert not list(unfinished(out))
    assert_same_bits(final_state(whole), final_state(out))
    assert timeless_metrics(whole) == timeless_metrics(out)
    assert (whole / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def resume(out: Path) -> list[str]:
    return ["train", "--resume", "--out", str(out)]


def test_killed_three_times(undisturbed: Callable[[int], Path], tmp_path: Path) -> None:
    check_kills(undisturbed(30), tmp_path / "run", steps=30, kills=3, apart=6, seed=0)


@pytest.mark.slow
def test_killed_twenty_four_times_in_240_steps(
    undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    check_kills(undisturbed(240), tmp_path / "run", steps=240, kills=24, apart=16, seed=1)
