from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normfree.cli import main
from normfree.train.fit import fit
from tests.unit.train.tiny import tiny_recipe

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for color images, five classes."""
    out = tmp_path_factory.mktemp("predict") / "run"
    fit(tiny_recipe(out, data="synthetic:64x8x3x5", epochs=1, num_classes=7))
    return out


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a [1].png", tmp_path / "b.jpg"]
    for path, size in zip(paths, [(30, 20), (50, 80)], strict=True):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return [str(path) for path in paths]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["predict", *words])
    return end.value.code or 0  # type: ignore[return-value]


def test_json(trained: Path, images: list[str], capsys: Capture) -> None:
    assert run(str(trained), *images, "--json", "--top", "3") == 0
    found = json.loads(capsys.readouterr().out)
    assert [image["image"] for image in found] == images
    for image in found:
        shares = [guess["probability"] for guess in image["classes"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
        assert {guess["class"] for guess in image["classes"]} <= {f"{36 * k}°" for k in range(5)}


def test_an_image_is_classified_as_it_would_be_alone(
    trained: Path, images: list[str], capsys: Capture
) -> None:
    run(str(trained), *images, "--json")
    both = json.loads(capsys.readouterr().out)
    run(str(trained), images[1], "--json")
    assert json.loads(capsys.readouterr().out) == both[1:]


def test_lines_for_people(trained: Path, images: list[str], capsys: Capture) -> None:
    assert run(str(trained), *images, "--top", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0] == images[0]
    assert "%" in lines[1]


def test_a_file_that_is_no_image_is_named(
    trained: Path, images: list[str], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "letter.jpg").write_text("Dear network")
    words = [str(trained), images[0], str(tmp_path / "letter.jpg")]
    assert run(*words) == 1
    assert f"cannot read image {tmp_path / 'letter.jpg'}" in capsys.readouterr().err

    assert run(*words, "--on-bad-image", "skip", "--json") == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 1
    assert f"skipped {tmp_path / 'letter.jpg'}" in printed.err


def test_nothing_readable_is_a_failure(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(str(trained), str(tmp_path / "none.png"), "--on-bad-image", "skip") == 1
    assert "none of the images could be read" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_no_network_there(
    place: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(place, "a.png") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_device_is_resolved(trained: Path, images: list[str], capsys: Capture) -> None:
    assert run(str(trained), *images, "--device", "auto") == 0
    assert run(str(trained), *images, "--device", "cuda:99") == 1
    assert "cannot compute on --device cuda:99" in capsys.readouterr().err
