"""Every example runs by itself, as a user starts it, in seconds and without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def photographs(tmp_path):
    """A directory of two large photographs."""
    place = tmp_path / "photographs"
    place.mkdir()
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        Image.fromarray(image).save(place / f"{name}.jpg")
    return place


def _run(example, *words, cwd):
    environment = {
        **os.environ,
        "PYTHONPATH": str(EXAMPLES.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-W", "error", str(example), *map(str, words)],
        capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(example, photographs, tmp_path):
    words = {"photo_folder": (photographs, tmp_path / "out", "--train", 3, "--val", 2)}
    result = _run(example, *words.get(example.stem, ()), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert not result.stderr


def test_the_added_source_reads_what_was_written(tmp_path):
    lines = _run(EXAMPLES / "add_a_data_source.py", cwd=tmp_path).stdout.splitlines()
    assert re.search(r"dark: mean grey level 6\d", lines[0])
    assert re.search(r"bright: mean grey level 19\d", lines[1])
    assert lines[-1] == "32 training and 8 validation images"


def test_the_photo_folder_is_a_source(photographs, tmp_path):
    from normfree.data import open_source

    _run(EXAMPLES / "photo_folder.py", photographs, tmp_path / "out", "--train", 3, cwd=tmp_path)
    source = open_source(f"folder:{tmp_path / 'out'}", "train")
    assert source.classes == ("china", "flower")
    assert source.image(5).shape == (160, 160, 3)
