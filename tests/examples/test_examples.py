"""Every example runs by itself, as a user starts it, in seconds and without a network.

Those with another trainer need it installed; its warnings are its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WITH_OTHERS = {
    "with_accelerate": ["accelerate"],
    "with_fastai": ["fastai"],
    "with_lightning": ["lightning"],
    "with_transformers": ["transformers", "accelerate"],
}
ALONE = sorted(path for path in EXAMPLES.glob("*.py") if path.stem not in WITH_OTHERS)
#: A small form of those that take longer.
SMALL = {
    "differential_privacy": ("--epochs", "0.5"),
    "federated": ("--rounds", "1", "--clients", "50", "--chosen", "2"),
}


def _run(example, *, cwd, warnings="error"):
    environment = {
        **os.environ,
        "PYTHONPATH": str(EXAMPLES.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-W", warnings, str(example), *SMALL.get(example.stem, ())],
        capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("example", ALONE, ids=lambda path: path.stem)
def test_an_example_runs(example, tmp_path):
    result = _run(example, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert not result.stderr


@pytest.mark.parametrize("example", WITH_OTHERS)
def test_an_example_with_another_trainer_learns(example, tmp_path):
    for package in WITH_OTHERS[example]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    result = _run(EXAMPLES / f"{example}.py", cwd=tmp_path, warnings="default")
    assert result.returncode == 0, result.stderr
    assert "the average knows 100% of the images" in result.stdout


def test_the_added_source_reads_what_was_written(tmp_path):
    lines = _run(EXAMPLES / "add_a_data_source.py", cwd=tmp_path).stdout.splitlines()
    assert re.search(r"dark: mean gray level 6\d", lines[0])
    assert re.search(r"bright: mean gray level 19\d", lines[1])
    assert lines[-1] == "32 training and 8 validation images"
