from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from normfree.analysis.dataset import contact_sheet
from normfree.cli import main
from normfree.data import open_source


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 3)):
        for label, name in enumerate(("dark", "bright")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count - label):
                size = (20 + number, 30, 3)
                pixels = rng.integers(128 * label, 128 * (label + 1), size, np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def _run(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main(["inspect-data", *map(str, words)])
    captured = capsys.readouterr()
    return caught.value.code, captured.out, captured.err


def test_what_is_found(photographs, capsys):
    train, val = photographs / "train", photographs / "val"
    shutil.copy(train / "dark/0.png", val / "dark/same.png")  # in both splits
    shutil.copy(train / "dark/1.png", train / "bright/wrong.png")  # in both classes
    (train / "dark/9.png").write_bytes(b"")
    code, out, _ = _run(capsys, f"folder:{photographs}", "--json")
    found = json.loads(out)
    assert (code, found["classes"]) == (0, ["bright", "dark"])
    split = found["splits"]["train"]
    assert (split["images"], split["per_class"]) == (11, {"bright": 5, "dark": 6})
    assert split["height"] == {"least": 20, "median": 21, "most": 24}
    assert split["width"] == {"least": 30, "median": 30, "most": 30}
    assert split["unreadable"] == {str(train / "dark/9.png"): "the file is empty"}
    twice = found["duplicates"]
    assert (twice["sets"], twice["images"]) == (2, 4)
    assert twice["across_splits"] == [[f"train: {train}/dark/0.png", f"val: {val}/dark/same.png"]]
    assert twice["different_labels"] == [
        [f"train: {train}/bright/wrong.png", f"train: {train}/dark/1.png"]
    ]
    code, out, _ = _run(capsys, f"folder:{photographs}", "--limit", 4)
    assert code == 0
    assert "train: 11 images, 4 of them read" in out
    assert "classes: from 5 (bright) to 6 images (dark), 1.2 times as many" in out
    code, out, _ = _run(capsys, f"folder:{photographs}")
    assert "1 unreadable\n" in out
    assert "1 sets in several splits\n    train: " in out


def test_the_contact_sheet(photographs, tmp_path, capsys):
    (photographs / "train/dark/0.png").write_bytes(b"")
    file = tmp_path / "deep/contact.png"
    words = ("--out", file, "--rows", 4, "--columns", 3, "--size", 16)
    code, out, _ = _run(capsys, f"folder:{photographs}", *words)
    assert (code, f"contact sheet: {file}" in out) == (0, True)
    sheet = np.asarray(Image.open(file))
    assert sheet.shape == (4 * 18 - 2, 3 * 18 - 2, 3)
    means = [sheet[18 * row : 18 * row + 16, :16].mean() for row in range(4)]
    assert [mean > 128 for mean in means] == [
        True,
        True,
        False,
        True,
    ]  # in turn, but the first dark one
    again = contact_sheet(open_source(f"folder:{photographs}", "train"), size=16, rows=4, columns=3)
    np.testing.assert_array_equal(again, sheet)
    strong = ("--out", file, "--magnitude", 9, "--rows", 4, "--columns", 3, "--size", 16)
    _run(capsys, f"folder:{photographs}", *strong)
    assert (np.asarray(Image.open(file)) != sheet).any()


def test_sources_in_memory(capsys, tmp_path):
    code, out, _ = _run(capsys, "digits", "--out", tmp_path / "a.png", "--rows", 10, "--size", 8)
    assert code == 0
    assert "digits: 10 classes" in out
    assert "val: 355 images" in out
    assert np.asarray(Image.open(tmp_path / "a.png")).shape == (98, 58)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folder:none"], "there is no directory none"),
        (["digits", "--limit", "0"], "--limit must be at least 1"),
        (["digits", "--out", "a.jpg", "--limit", "1"], "--out is a PNG file"),
        ([], "required: SOURCE"),
    ],
)
def test_what_is_refused(words, message, capsys):
    code, _, err = _run(capsys, *words)
    assert code in (1, 2)
    assert message in err
    assert err.count("\n") == 1
