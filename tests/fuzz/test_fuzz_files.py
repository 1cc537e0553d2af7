"""A few hundred damaged files; run ``fuzz_files.py`` for more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.fuzz_files import FORMATS, in_a_process

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", list(FORMATS))
def test_damaged_files_give_an_answer_or_one_line(name: str) -> None:
    """Run in a separate process: forks of a process that has used threads may deadlock."""
    script = [sys.executable, str(ROOT / "tests/fuzz/fuzz_files.py")]
    done = subprocess.run(
        [*script, "--count", "40", "--seed", "7", "--formats", name],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_fails_is_noticed() -> None:
    def hang() -> None:
        while True:
            pass

    def take() -> None:
        bytearray(3 * 2**30)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_process(lambda: None) == "answer"
    assert in_a_process(hang) == "no end in 5 s"
    assert in_a_process(die) == "signal 9"
    assert in_a_process(take).startswith("unexpected MemoryError")
    assert in_a_process(lambda: {}["x"]).startswith("unexpected KeyError")  # type: ignore[index]
