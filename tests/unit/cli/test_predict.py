from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normfree import load
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


def test_a_file_that_is_no_image_is_named_and_the_others_are_classified(
    trained: Path, images: list[str], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "letter.jpg").write_text("Dear network")
    words = [str(trained), images[0], str(tmp_path / "letter.jpg"), images[1], "--json"]
    assert run(*words) == 1
    printed = capsys.readouterr()
    assert [image["image"] for image in json.loads(printed.out)] == images
    assert f"cannot read image {tmp_path / 'letter.jpg'}" in printed.err
    assert "1 of 3 images could not be read" in printed.err

    assert run(*words, "--on-bad-image", "skip") == 0
    again = capsys.readouterr()
    assert again.out == printed.out
    assert f"skipped {tmp_path / 'letter.jpg'}" in again.err
    assert "1 of 3 images could not be read" in again.err


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Forty images at several depths, one of them damaged, and files of other kinds."""
    rng = np.random.default_rng(1)
    directory = tmp_path / "tree"
    for number in range(40):
        path = directory / f"{number % 3}" / ("deep" if number % 2 else "") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (9 + number, 20)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    (directory / "0" / "06.png").write_bytes(b"")
    (directory / "notes.txt").write_text("none")
    (directory / ".hidden.png").write_bytes(b"")
    return directory


def expected(tree: Path) -> list[str]:
    files = [path for path in tree.rglob("[0-9]*.png") if path.stat().st_size]
    return sorted(map(str, files), key=lambda path: path.split("/"))


def test_a_directory_is_classified_in_a_stable_order_and_as_image_by_image(
    trained: Path, tree: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "new" / "found.jsonl"
    words = [str(trained), str(tree), "--output", str(out), "--on-bad-image", "skip"]
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert "39 images classified" in printed.out
    assert "1 files ignored" in printed.err
    assert "1 of 40 images could not be read" in printed.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["image"] for row in rows] == expected(tree)
    predictor = load(trained)
    for row in rows:
        (alone,) = predictor.predict(row["image"])
        assert [guess["class"] for guess in row["classes"]] == [guess.label for guess in alone]
        np.testing.assert_allclose(
            [guess["probability"] for guess in row["classes"]],
            [guess.probability for guess in alone],
            rtol=1e-6,
        )


def test_all_formats_hold_the_same(trained: Path, tree: Path, tmp_path: Path) -> None:
    found = {}
    for suffix in ("csv", "json", "jsonl"):
        out = tmp_path / f"found.{suffix}"
        out.write_text("of yesterday")
        assert run(str(trained), str(tree), "--output", str(out), "--top", "9") == 1
        found[suffix] = out.read_text()
    listed = json.loads(found["json"])
    assert listed == [json.loads(line) for line in found["jsonl"].splitlines()]
    heading, *rows = csv.reader(found["csv"].splitlines())
    assert heading[:5] == ["path", "class", "probability", "class_2", "probability_2"]
    assert len(heading) == 1 + 2 * 5  # as many as there are classes
    for row, image in zip(rows, listed, strict=True):
        flat = [x for guess in image["classes"] for x in (guess["class"], guess["probability"])]
        assert row == [image["image"], *map(str, flat)]


def test_files_and_directories_together(
    trained: Path, images: list[str], tree: Path, capsys: Capture
) -> None:
    words = [images[1], str(tree / "1"), images[0]]
    assert run(str(trained), *words, "--json") == 0
    found = [image["image"] for image in json.loads(capsys.readouterr().out)]
    inside = [path for path in expected(tree) if path.startswith(str(tree / "1"))]
    assert found == [images[1], *inside, images[0]]


def test_names_with_commas_and_quotes(trained: Path, images: list[str], tmp_path: Path) -> None:
    odd = tmp_path / 'a, "b".png'
    Path(images[0]).rename(odd)
    assert run(str(trained), str(odd), "--output", str(tmp_path / "o.csv"), "--top", "1") == 0
    rows = list(csv.reader((tmp_path / "o.csv").read_text().splitlines()))
    assert rows[1][0] == str(odd)


def test_an_output_is_checked_before_anything_else(
    trained: Path, images: list[str], tmp_path: Path, capsys: Capture
) -> None:
    assert run("nowhere", images[0], "--output", "found.txt") == 2
    assert ".csv, .json, .jsonl" in capsys.readouterr().err
    assert run("nowhere", images[0], "--output", "found.csv", "--json") == 2
    assert "leave one of them out" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(str(trained), str(tmp_path / "empty")) == 1
    assert f"there are no images in {tmp_path / 'empty'}" in capsys.readouterr().err


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
