"""The command on several ranks: who writes, who speaks, and how a run goes on with other ranks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ranks.cases import distance
from tests.ranks.launch import TIMEOUT, finish, start
from tests.unit.train.tiny import final_state, timeless_metrics

WORDS = [
    *("normfree", "train", "digits", "--data", "synthetic:64x8x1x5", "--epochs", "3"),
    *("--batch-size", "24", "--accumulate", "2", "--mixing", "mixup_cutmix", "--device", "cpu"),
    *("--checkpoint-every", "1", "--log-every", "1", "--optimizer", "sgd", "--clipping", "0.1"),
]


def train(world: int, out: Path, *words: str) -> list[tuple[int, str, str]]:
    return finish(start(world, *WORDS, "--out", str(out), *words))


def tensors(run: Path) -> dict[str, Any]:
    return {k: x for k, x in final_state(run).items() if k.startswith((".model", ".ema"))}


def assert_same_run(a: Path, b: Path) -> None:
    """The same weights and the same metrics, but for rounding."""
    assert distance(tensors(a), tensors(b)) < 1e-6
    for mine, other in zip(timeless_metrics(a), timeless_metrics(b), strict=True):
        for text in ("kind", "better"):
            assert mine.pop(text, None) == other.pop(text, None)
        assert [k for k in mine if mine[k] is None] == [k for k in other if other[k] is None]
        mine, other = ({k: v for k, v in x.items() if v is not None} for x in (mine, other))
        assert mine == pytest.approx(other, rel=1e-5, abs=1e-7)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "alone"
    ((code, _, errors),) = train(1, out)
    assert (code, errors) == (0, "")
    return out


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_ranks_write_one_run(kind: str, alone: Path, tmp_path: Path) -> None:
    main, other = train(2, tmp_path / "run", "--parallel", kind)
    assert (main[0], main[2]) == (0, "")
    assert other == (0, "", "")  # only the main rank speaks
    assert f"2 processes, {kind}" in main[1]
    assert_same_run(alone, tmp_path / "run")


def stopped(world: int, out: Path, line: str, *words: str) -> list[tuple[int, str, str]]:
    """Ranks of which the last is asked to stop once the main one has printed a line."""
    ranks = start(world, *WORDS, "--out", str(out), *words)
    assert ranks[0].stdout is not None
    for text in ranks[0].stdout:
        if text.startswith(line):
            break
    ranks[-1].send_signal(signal.SIGTERM)
    return finish(ranks)


def test_a_run_goes_on_with_another_number_of_ranks(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    main, other = stopped(2, out, "step 2/", "--parallel", "fsdp")
    assert (main[0], other[0]) == (128 + signal.SIGTERM,) * 2
    assert (main[2] + other[2]).count("\n") == 1
    assert "stopped by SIGTERM" in main[2] + other[2]
    ((code, said, errors),) = finish(
        start(1, "normfree", "train", "--resume", "--out", str(out), "--log-every", "1")
    )
    assert (code, errors) == (0, "")
    assert "going on after step" in said
    assert_same_run(alone, out)


def test_an_error_is_said_once(tmp_path: Path) -> None:
    results = train(2, tmp_path / "run", "--data", "folder:nowhere")
    assert [code for code, _, _ in results] == [1, 1]
    said = "".join(errors for _, _, errors in results)
    assert said.count("\n") == 1
    assert "nowhere" in said


def test_a_wrong_option_is_said_once(tmp_path: Path) -> None:
    results = train(2, tmp_path / "run", "--batch-sise", "3")
    assert [(code, errors.count("\n")) for code, _, errors in results] == [(2, 1), (2, 0)]


def test_a_killed_rank_ends_the_others_with_one_line(tmp_path: Path) -> None:
    ranks = start(2, *WORDS, "--out", str(tmp_path / "run"))
    assert ranks[0].stdout is not None
    for text in ranks[0].stdout:
        if text.startswith("step 2/"):
            break
    ranks[1].kill()
    main, other = finish(ranks)
    assert (main[0], other[0]) == (1, -signal.SIGKILL)
    assert main[2].count("\n") == 1
    assert "rank 0 of 2" in main[2]
    assert "--resume" in main[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_killed_a_run_goes_on_with_one_rank_and_with_two_again(
    kind: str, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    resume = ["normfree", "train", "--resume", "--out", str(out)]
    first = start(2, *WORDS, "--out", str(out), "--parallel", kind)
    killed(first, "step 2/")
    shards = list((out / "checkpoints").glob("step-*/shard-00001-of-00002.safetensors"))
    assert shards  # the second rank wrote some of it
    killed(start(1, *resume), "step 5/")
    assert [code for code, _, _ in finish(start(2, *resume, "--parallel", kind))] == [0, 0]
    assert_same_run(alone, out)


def killed(ranks: list[subprocess.Popen[str]], line: str) -> None:
    """Kill the last rank once the main one has printed a line; the others end by themselves."""
    assert ranks[0].stdout is not None
    for text in ranks[0].stdout:
        if text.startswith(line):
            break
    ranks[-1].kill()
    finish(ranks)


@pytest.mark.slow
def test_the_launcher_starts_ranks_again_and_they_go_on(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "2", "-m", *WORDS]
    with subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as launcher:
        assert launcher.stdout is not None
        for number, line in enumerate(("step 3/", "step 6/")):
            for text in launcher.stdout:
                if text.startswith(line):
                    break
            path = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
            children = path.read_text().split()
            os.kill(int(children[-1 - number]), signal.SIGKILL)
        said, errors = launcher.communicate(timeout=TIMEOUT)
    assert launcher.returncode == 0, errors
    assert "going on after step" in said
    assert_same_run(alone, out)


def test_several_labels_are_measured_over_all_ranks(tmp_path: Path) -> None:
    """Ranks see other images each; mAP and F1 are of all of them."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(60):
        labels = [name for name in ("left", "top", "none") if rng.random() < 0.4]
        pixels = rng.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        split = "val" if number % 3 == 2 else "train"
        lines.append(json.dumps({"path": f"{number}.png", "labels": labels, "split": split}))
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    words = (
        *("--data", f"jsonl:{tmp_path}/list.jsonl", "--loss", "sigmoid", "--epochs", "2"),
        *("--train-size", "8", "--test-size", "8"),
    )
    for world in (1, 2):
        outcomes = train(world, tmp_path / str(world), *words)
        assert all(code == 0 for code, *_ in outcomes), outcomes
    assert_same_run(tmp_path / "1", tmp_path / "2")
    last = timeless_metrics(tmp_path / "2")[-1]
    assert {"val_map", "val_micro_f1", "val_macro_f1", "val_map_ema"} <= last.keys()
