"""Images that cannot be read, on several ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ranks.launch import finish, start
from tests.unit.train.tiny import timeless_metrics


def images(directory: Path, damaged: dict[str, int]) -> Path:
    """A folder of small images, of which the last ones of each split are damaged."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 8)):
        for name in ("cat", "dog"):
            place = directory / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number:02}.png")
                if number >= count - damaged.get(split, 0):
                    (place / f"{number:02}.png").write_bytes(b"damaged")
    return directory


def words(data: Path, out: Path) -> list[str]:
    return [
        *("normfree", "train", "folder", "--data", f"folder:{data}", "--model", "nfnet_pico"),
        *("--train-size", "16", "--test-size", "16", "--epochs", "3", "--batch-size", "8"),
        *("--accumulate", "2", "--device", "cpu", "--log-every", "1", "--workers", "0"),
        *("--checkpoint-every", "100", "--out", str(out)),
    ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_steps_before_an_unreadable_image_are_saved(split: str, tmp_path: Path) -> None:
    command = words(images(tmp_path / "data", {split: 1}), tmp_path / "run")
    results = finish(start(2, *command))
    assert [code for code, _, _ in results] == [1, 1]
    said = "".join(errors for _, _, errors in results)
    assert said.count("\n") == 1, said
    step = int(said.partition("; step ")[2].partition(" is saved")[0])
    assert (step == 3) if split == "val" else (step < 3)
    resume = ["normfree", "train", "--resume", "--out", str(tmp_path / "run")]
    results = finish(start(2, *resume, "--on-bad-image", "skip"))
    assert [(code, errors) for code, _, errors in results] == [(0, "")] * 2
    assert f"going on after step {step}" in results[0][1] or step == 0
    steps = [line["step"] for line in timeless_metrics(tmp_path / "run") if line["kind"] == "train"]
    assert steps == list(range(1, 10))
    listed = (tmp_path / "run" / "bad_images.txt").read_text().splitlines()
    names = {line.split("\t")[0] for line in listed}
    assert {Path(name).parent.name for name in names} == {"cat", "dog"}


def test_images_that_any_rank_skips_are_listed_as_they_come(tmp_path: Path) -> None:
    data = images(tmp_path / "data", {"train": 3, "val": 2})
    listed = tmp_path / "run" / "bad_images.txt"
    allowed = ["--on-bad-image", "skip", "--max-bad-fraction", "0.5"]
    ranks = start(2, *words(data, tmp_path / "run"), *allowed)
    assert ranks[0].stdout is not None
    for text in ranks[0].stdout:
        if text.startswith("step 4/"):  # all images were read once
            found = listed.read_text().splitlines()
            break
    results = finish(ranks)
    assert [(code, errors) for code, _, errors in results] == [(0, "")] * 2
    assert len(found) == len({*found}) == 10
    assert listed.read_text().splitlines() == found
    assert "10 images could not be read" in results[0][1]


def test_the_bound_is_for_the_images_of_all_ranks(tmp_path: Path) -> None:
    command = words(images(tmp_path / "data", {"train": 3}), tmp_path / "run")
    results = finish(start(2, *command, "--on-bad-image", "skip", "--max-bad-fraction", "0.125"))
    assert [code for code, _, _ in results] == [1, 1]  # 5 of 40 are allowed; a rank reads 3 or so
    said = "".join(errors for _, _, errors in results)
    assert "6 images cannot be read, and 5 are allowed" in said
    assert said.count("\n") == 1
