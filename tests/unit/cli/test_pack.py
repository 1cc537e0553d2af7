"""``normfree pack``: what it writes, says and refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normfree.cli import main
from normfree.data import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "data"


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["pack", *map(str, words)])
    return int(stopped.value.code or 0)


def test_it_packs_every_split_and_says_how_to_train(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.pack"
    assert run(f"folder:{folder}", out, "--size", "16") == 0
    said = capsys.readouterr()
    assert f"12 images of folder:{folder}" in said.out
    assert f"--data pack:{out}" in said.out
    assert said.err == ""
    assert open_source(f"pack:{out}", "val").image(0).shape == (16, 24, 3)
    assert run(out, "--verify") == 0
    assert "every image matches" in capsys.readouterr().out


def test_a_file_is_replaced_only_by_force(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.pack"
    out.write_text("precious")
    assert run(f"folder:{folder}", out) == 1
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run(f"folder:{folder}", out, "--force", "--encode", "jpeg", "--workers", "1") == 0


def test_damage_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.pack"
    assert run(f"folder:{folder}", out) == 0
    content = bytearray(out.read_bytes())
    content[100] ^= 1
    out.write_bytes(content)
    capsys.readouterr()
    assert run(out, "--verify") == 1
    said = capsys.readouterr().err
    assert "cat/0.png: damaged in" in said
    assert "1 images of" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--square"], "--size"),
        (["--size", "0"], "short_side"),
        (["--workers", "-1"], "--workers"),
        (["--encode", "png"], "--encode"),
    ],
)
def test_impossible_wishes(
    words: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"folder:{folder}", tmp_path / "a.pack", *words) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_unreadable_images_can_be_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "train/cat/1.png").write_bytes(b"")
    out = tmp_path / "a.pack"
    assert run(f"folder:{folder}", out) == 1
    assert "--on-bad-image skip" in capsys.readouterr().err
    assert run(f"folder:{folder}", out, "--on-bad-image", "skip") == 0
    said = capsys.readouterr()
    assert "11 images" in said.out
    assert "left out" in said.err
