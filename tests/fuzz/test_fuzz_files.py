"""A few hundred damaged files; run ``fuzz_files.py`` for more."""

from __future__ import annotations

import io
import os
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fuzz import plant
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


@pytest.mark.slow
def test_thousands_of_damaged_files_give_an_answer_or_one_line(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "tests/fuzz/fuzz_files.py"), "--keep", str(tmp_path)]
    done = subprocess.run(
        [*script, "--count", "5600", "--seed", "11"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_pickle_runs_is_noticed(tmp_path: Path) -> None:
    """The plants are alive: readers that trust a file do run them."""
    marks = tmp_path / "marks" / "here"
    marks.mkdir(parents=True)
    for seed in range(40):
        planted = plant.whole(b"", random.Random(seed))
        if planted[:1] != b"P" and planted[:2] != b"\x93N":  # neither a zip file nor an array

            def trust(data: bytes = planted) -> None:
                file = io.BytesIO(data)
                while True:
                    try:
                        pickle.load(file)
                    except EOFError:
                        return

            assert in_a_process(trust, marks) == "something was run"
    text = plant.in_text(b"recipe: 1\n", random.Random(2))
    assert in_a_process(lambda: yaml.unsafe_load(text), marks) == "something was run"
    assert in_a_process(lambda: yaml.safe_load(b"a: 1"), marks) == "answer"


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
