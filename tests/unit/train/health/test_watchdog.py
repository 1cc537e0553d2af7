"""What the watchdog writes, of this process and of a command whose loader blocks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from normfree.train.health.watchdog import EXIT_HUNG, Beat, Watchdog, about

BLOCKED = """
import sys, threading
from normfree.cli import main
from normfree.train import loop

uploaded = loop.uploaded

def blocked(micro_batches, device):
    for number, micro_batch in enumerate(uploaded(micro_batches, device)):
        if number == 3:
            wait_for_the_network()
        yield micro_batch

def wait_for_the_network():
    threading.Event().wait(600)

loop.uploaded = blocked
main(sys.argv[1:])
"""


def test_a_blocked_loader_is_reported_with_its_stack_and_the_run_ends(tmp_path: Path) -> None:
    words = ["train", "digits", "--data", "synthetic:64x8x1x5", "--batch-size", "24"]
    words += ["--out", "run", "--device", "cpu", "--watchdog-seconds", "1", "--on-hang", "abort"]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (EXIT_HUNG, "")
    assert "warning: no progress for 1 s: training, 3 steps done; the run ends." in done.stdout
    stacks = (tmp_path / "run" / "stacks-rank0.txt").read_text()
    assert "wait_for_the_network" in stacks
    assert "3 steps done" in stacks


def test_a_run_that_goes_on_again_says_so(tmp_path: Path) -> None:
    said, reported, resumed = [], threading.Event(), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        (resumed if "goes on" in text else reported).set()

    with Watchdog(0.2, directory=tmp_path, say=say) as watchdog:
        watchdog.beat("training", step=7)
        assert reported.wait(60)
        watchdog.beat("training", step=8)
        assert resumed.wait(60)
    assert said[0].startswith("warning: no progress for 0.2 s: training, 7 steps done; the run wa")
    assert said[1] == "warning: the run goes on, with step 8"
    assert "test_a_run_that_goes_on_again_says_so" in (tmp_path / "stacks-rank0.txt").read_text()


def test_where_nothing_can_be_written_the_stacks_go_to_the_error_output(tmp_path: Path) -> None:
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from normfree.train.health.watchdog import Watchdog\n"
        "said = threading.Event()\n"
        "with Watchdog(0.2, directory=Path(sys.argv[1]), say=lambda text: said.set()):\n"
        "    said.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert "rank 0, process " in done.stderr
    assert "Thread 0x" in done.stderr


def test_without_seconds_there_is_no_thread() -> None:
    before = threading.active_count()
    with Watchdog(0) as watchdog:
        watchdog.beat("training")
        assert threading.active_count() == before


def test_ranks_that_are_all_as_far_are_not_named() -> None:
    before = {0: Beat(1, 5, 5, "training"), 1: Beat(1, 5, 5, "training")}
    now = {rank: beat._replace(looks=3) for rank, beat in before.items()}
    assert about(before, now, 2) == ""
    assert about(before, {0: now[0], 1: before[1]}, 2) == (
        "; rank 1 does not answer (last heard of: 5 steps done, training)"
    )


def test_a_beat_is_what_was_written() -> None:
    beat = Beat(3, 9, 12, "evaluating the last epoch")
    assert Beat.read(str(beat)) == beat
