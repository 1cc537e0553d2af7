"""``normfree bench data``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from normfree.analysis.data_stages import our_stages, write_jpegs
from normfree.cli.bench_output import load_from_checkout
from normfree.data import EvalTransform, TrainTransform, decode
from tests.unit.cli.test_bench import Capture, run

STAGES = ["read", "decode", "crop", "all", "device"]
PILLOW = ["read", "decode", "crop", "collate", "all"]


@pytest.mark.parametrize("transform", ["train", "eval"])
def test_every_stage_beside_pillow(transform: str, tmp_path: Path, capsys: Capture) -> None:
    file, threads = tmp_path / "new" / "found.json", torch.get_num_threads()
    words = ("--images", "3", "--size", "16", "--rounds", "2", "--transform", transform)
    assert run("data", "--peers", *words, "--json", str(file)) == 0
    assert torch.get_num_threads() == threads
    found = json.loads(file.read_text())
    assert (found["benchmark"], found["threads"], found["options"]["images"]) == ("data", 1, 3)
    assert 20_000 < found["bytes_per_image"] < 200_000
    ours = [row for row in found["results"] if row["by"] == "normfree"]
    pillow = [row for row in found["results"] if row["by"] == "pillow"]
    assert [row["stage"] for row in ours] == STAGES
    assert [row["stage"] for row in pillow] == PILLOW
    for row in found["results"]:
        assert row["images_per_second_per_core"] == pytest.approx(3 / row["seconds"]["median"])
    speeds = {row["stage"]: row["images_per_second_per_core"] for row in ours}
    for other in pillow:
        if other["stage"] == "collate":
            assert other["faster"] is None
            continue
        ratio = speeds[other["stage"]] / other["images_per_second_per_core"]
        assert other["faster"]["median"] == pytest.approx(ratio)
    assert len(capsys.readouterr().out.splitlines()) == 1 + 10


def test_what_a_device_needs(tmp_path: Path, capsys: Capture) -> None:
    file, words = tmp_path / "found.json", ("--images", "2", "--size", "8", "--rounds", "2")
    device = ("--device-images-per-second", "1000000")
    assert run("data", *words, *device, "--json", str(file)) == 0
    needed = json.loads(file.read_text())["needed"]
    assert needed["cores"] == pytest.approx(1e6 / needed["images_per_second_per_core"])
    assert f"needs {needed['cores']:.1f} cores that read" in capsys.readouterr().out


def test_images_of_a_folder(tmp_path: Path, capsys: Capture) -> None:
    for name in "ab":
        directory = tmp_path / "train" / name
        directory.mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(directory / "1.png")
    words = ("--images", "5", "--size", "8", "--rounds", "2")
    assert run("data", "--data", f"folder:{tmp_path}", *words) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(STAGES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device-images-per-second", "0"], "--device-images-per-second must be positive"),
        (["--images", "1"], "--images must be at least 2, not 1"),
        (["--rounds", "1"], "--rounds must be at least 2, not 1"),
        (["--data", "synthetic:64x8"], "--data must be folder:DIR"),
        (["--data", "folder:/nowhere"], "/nowhere"),
        (["--transform", "test"], "--transform"),
    ],
)
def test_what_cannot_be_measured_is_said(words: list[str], said: str, capsys: Capture) -> None:
    assert run("data", *words) in (1, 2)
    assert said in capsys.readouterr().err


def test_the_stages_make_what_the_transforms_make(tmp_path: Path) -> None:
    files = write_jpegs(tmp_path, 3)
    for kind, crop in (("train", TrainTransform(24)), ("eval", EvalTransform(24))):
        stages = {stage.name: stage.call for stage in our_stages(files, crop)}
        images = [crop(decode(file), np.random.default_rng(row)) for row, file in enumerate(files)]
        expected = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2))
        assert torch.equal(stages["crop"](), expected)
        loaded = stages["all"]()
        assert loaded.shape == expected.shape
        if kind == "eval":
            assert torch.equal(loaded, expected)
        assert stages["device"]().dtype == torch.float32


def test_pillow_takes_the_same_crops(tmp_path: Path) -> None:
    """Its filter is antialiased, so enlarged crops agree and reduced ones only roughly."""
    files = write_jpegs(tmp_path, 4)
    pillow = load_from_checkout("pillow_data")
    for kind, crop in (("train", TrainTransform(400)), ("eval", EvalTransform(400))):
        ours = {stage.name: stage.call for stage in our_stages(files, crop)}["crop"]()
        theirs = {stage.name: stage.call for stage in pillow.stages(files, 400, kind)}["collate"]()
        assert theirs.dtype == torch.uint8
        assert (ours - theirs.float()).abs().mean() < 4
