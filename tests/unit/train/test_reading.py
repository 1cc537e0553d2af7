"""Runs that read photographs: killed workers, caches, lists of unreadable images."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from normfree.data import TooManyBadImagesError, WorkerError
from normfree.errors import UserError
from normfree.train.fit import fit
from normfree.train.progress import Progress
from tests.unit.train.tiny import assert_same_bits, final_state, timeless_metrics, tiny_recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for name in ("cat", "dog"):
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "data"


def train(folder: Path, out: Path, **changes: Any) -> str:
    """What a run says."""
    console = Console(file=io.StringIO(), width=200)
    settings = {"batch_size": 8, "epochs": 3, "train_size": 16, "test_size": 16, "log_every": 1}
    recipe = tiny_recipe(out, data=f"folder:{folder}", **{**settings, **changes})
    try:
        fit(recipe, console)
    finally:
        said = console.file.getvalue()  # type: ignore[attr-defined]
        (out.parent / "said").write_text(said)
    return said


def assert_same_run(a: Path, b: Path) -> None:
    assert_same_bits(final_state(a), final_state(b))
    assert timeless_metrics(a) == timeless_metrics(b)


def kill_workers_after(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    advance = Progress.advance

    def advance_and_kill(self: Progress) -> None:
        advance(self)
        children = multiprocessing.active_children()
        if self.step in steps and children:
            os.kill(children[0].pid or 0, signal.SIGKILL)

    monkeypatch.setattr(Progress, "advance", advance_and_kill)


def test_calibration_leaves_unreadable_images_to_training(folder: Path, tmp_path: Path) -> None:
    for image in (folder / "train" / "cat").iterdir():
        image.write_bytes(b"")
    with pytest.raises(UserError, match="cat"):
        train(folder, tmp_path / "run", calibrate=True)
    assert (tmp_path / "run" / "config.yaml").exists()


def test_a_killed_worker_is_said_and_changes_no_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(folder, tmp_path / "alone")
    kill_workers_after({4}, monkeypatch)
    said = train(folder, tmp_path / "killed", workers=1)
    assert said.count("was killed by SIGKILL") == 1
    assert "it was replaced" in said
    assert not multiprocessing.active_children()
    assert_same_run(tmp_path / "alone", tmp_path / "killed")


def test_a_second_one_stops_the_run_with_a_checkpoint_and_it_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"epochs": 12, "eval_every": 12}
    train(folder, tmp_path / "alone", **long)
    with monkeypatch.context() as patched:
        kill_workers_after({2, *range(14, 36)}, patched)
        with pytest.raises(WorkerError, match=r"second.*--resume"):
            train(folder, tmp_path / "killed", workers=1, checkpoint_every=1000, **long)
    assert not multiprocessing.active_children()
    said = train(folder, tmp_path / "killed", workers=1, resume=True, **long)
    assert "going on after step" in said
    assert_same_run(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_cache_changes_no_bit(
    kind: str, workers: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train(folder, tmp_path / "alone")
    said = train(folder, tmp_path / "cached", cache=kind, cache_gb=0.1, workers=workers)
    assert "room for about 100 % of them" in said
    assert_same_run(tmp_path / "alone", tmp_path / "cached")
    files = list((tmp_path / "cache").rglob("*.pixels"))
    assert len(files) == (2 if kind == "disk" else 0)


def test_unreadable_images_are_listed_in_the_run(folder: Path, tmp_path: Path) -> None:
    (folder / "train/cat/3.png").write_bytes(b"")
    train(folder, tmp_path / "run", on_bad_image="skip")
    lines = (tmp_path / "run" / "bad_images.txt").read_text().splitlines()
    assert lines == [f"{folder}/train/cat/3.png\tthe file is empty"]


def test_too_many_stop_the_run_with_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    for number in range(4):
        (folder / f"train/cat/{number}.png").write_bytes(b"")
    with pytest.raises(TooManyBadImagesError, match=r"--max-bad-fraction"):
        train(folder, tmp_path / "run", on_bad_image="skip")
    assert len((tmp_path / "run" / "bad_images.txt").read_text().splitlines()) == 4
    train(folder, tmp_path / "run", on_bad_image="skip", max_bad_fraction=0.5, resume=True)
