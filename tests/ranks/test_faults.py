"""Faults on several ranks: all of them leave out the same batch, and a hang names who holds up."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from normfree.train.health.watchdog import EXIT_HUNG
from tests.ranks.launch import TIMEOUT, finish, start
from tests.ranks.test_launched import WORDS, assert_same_run

FAULTY = ("tests.ranks.faulty",)
TRAIN = WORDS[1:]  # of ``python -m normfree``


def faulty(kind: str, world: int, out: Path, *words: str) -> list[subprocess.Popen[str]]:
    """Ranks with a fault in the batch of step 4."""
    return start(world, *FAULTY, kind, "4", *TRAIN, "--out", str(out), *words)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "alone"
    ((code, _, errors),) = finish(faulty("gradient", 1, out, "--on-nonfinite", "skip"))
    assert (code, errors) == (0, "")
    return out


@pytest.mark.parametrize(("kind", "action"), [("ddp", "skip"), ("fsdp", "rewind")])
def test_all_ranks_leave_out_the_same_batch(
    kind: str, action: str, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    main, other = finish(faulty("gradient", 2, out, "--parallel", kind, "--on-nonfinite", action))
    assert (main[0], main[2]) == (0, "")
    assert other == (0, "", "")
    assert list(json.loads((out / "skipped_steps.json").read_text())) == ["4"]
    assert_same_run(alone, out)


def test_a_bad_batch_stops_all_ranks_with_one_line(tmp_path: Path) -> None:
    results = finish(faulty("loss", 2, tmp_path / "run"))
    assert [code for code, _, _ in results] == [1, 1]
    said = "".join(errors for _, _, errors in results)
    assert said.count("\n") == 1
    assert "the loss is not finite at step 4" in said


def hung(kind: str, out: Path, *words: str) -> list[subprocess.Popen[str]]:
    """Ranks of which the second hangs in step 4."""
    return faulty(kind, 2, out, "--watchdog-seconds", "1", *words)


def test_a_stopped_rank_is_named_and_the_run_ends(tmp_path: Path) -> None:
    ranks = hung("stopped", tmp_path / "run", "--on-hang", "abort")
    try:
        said, _ = ranks[0].communicate(timeout=TIMEOUT)  # it ends by itself
    finally:
        ranks[1].kill()
        finish(ranks[1:])
    assert ranks[0].returncode == EXIT_HUNG
    assert "warning: no progress for 1 s: training, 4 steps done" in said
    assert re.search(
        r"rank 1 does not answer \(last heard of: [0-4] steps done, \w+\); the run ends", said
    )
    stacks = (tmp_path / "run" / "stacks-rank0.txt").read_text()
    assert stacks.startswith("rank 0, process ")
    assert "loop.py" in stacks
    assert not (tmp_path / "run" / "stacks-rank1.txt").exists()  # it cannot


def test_a_rank_that_is_stuck_says_where_and_the_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    ranks = hung("stuck", out)
    try:
        assert ranks[0].stdout is not None
        line = next((x for x in ranks[0].stdout if "no progress for 1 s" in x), "")
        stuck = out / "stacks-rank1.txt"
        while not stuck.exists() or "in marked" not in stuck.read_text():  # about to be written
            assert ranks[1].poll() is None
    finally:
        for rank in ranks:
            rank.kill()
        finish(ranks)
    assert "the run waits" in line
    assert "does not answer" not in line
