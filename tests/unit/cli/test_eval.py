from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from normfree import load
from normfree.cli import main
from normfree.data import open_source
from normfree.inference import card_transform
from normfree.train.fit import fit
from tests.unit.train.tiny import tiny_recipe

Capture = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code or 0  # type: ignore[return-value]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    words = ["--epochs", "1", "--warmup-epochs", "0", "--lr", "0.1", "--out", str(out)]
    assert run("train", "digits", *words) == 0
    return out


def test_eval_repeats_the_number_of_the_run(trained: Path, capsys: Capture) -> None:
    lines = [json.loads(x) for x in (trained / "metrics.jsonl").read_text().splitlines()]
    assert run("eval", str(trained), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 355
    kept = {"raw": "", "averaged": "_ema"}[lines[-1]["better"]]
    assert found["top1"] == lines[-1][f"val_top1{kept}"]
    assert found["loss"] == pytest.approx(lines[-1][f"val_loss{kept}"], rel=1e-6)


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoints/step-00000022"])
def test_eval_takes_files_too(file: str, trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained), "--json") == 0
    directory = json.loads(capsys.readouterr().out)
    assert run("eval", str(trained / file), "--data", "digits", "--json") == 0
    assert json.loads(capsys.readouterr().out) == directory


def test_eval_for_people(trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "355 images classified, 0 unreadable"
    assert lines[2].startswith("balanced accuracy")
    assert max(map(len, lines)) <= 80
    at = lines.index("confusion matrix: a row for each class, a column for each answer")
    matrix = np.array([line.split()[1:] for line in lines[at + 2 : at + 12]], dtype=int)
    assert matrix.sum() == 355
    heading = next(line for line in lines if line.startswith("class"))
    assert heading.split() == ["class", "precision", "recall", "F1", "images"]
    assert [int(line.split()[-1]) for line in lines[5:15]] == matrix.sum(axis=1).tolist()


def test_numbers_of_classes_equal_numpys(trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    source = open_source("digits", "val")
    shares = load(trained).probabilities([source.image(i) for i in range(len(source))])
    answers, labels = shares.argmax(axis=1), source.labels
    for label, one in enumerate(found["classes"]):
        right = np.sum((answers == label) & (labels == label))
        assert one["class"] == str(label)
        assert one["support"] == np.sum(labels == label)
        assert one["recall"] == pytest.approx(right / np.sum(labels == label))
        if answered := np.sum(answers == label):
            assert one["precision"] == pytest.approx(right / answered)
        else:
            assert one["precision"] is None
    matrix = np.array(found["confusion_matrix"])
    assert matrix[3, 5] == np.sum((labels == 3) & (answers == 5))
    assert found["top1"] == pytest.approx(np.trace(matrix) / matrix.sum())
    recalls = [one["recall"] for one in found["classes"]]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_five_classes_have_no_top5_and_many_are_cut(tmp_path: Path, capsys: Capture) -> None:
    for classes in (5, 40):
        out, data = tmp_path / str(classes), f"synthetic:{classes * 8}x8x1x{classes}"
        fit(tiny_recipe(out, data=data, epochs=1))
        assert run("eval", str(out), "--json") == 0
        assert ("top5" in json.loads(capsys.readouterr().out)) == (classes > 5)
    assert run("eval", str(out)) == 0
    said = capsys.readouterr().out
    assert "the 10 worst of 40 classes by F1 (--all-classes shows every one)" in said
    assert "most confused" in said
    assert max(map(len, said.splitlines())) <= 80
    assert run("eval", str(out), "--all-classes") == 0
    every = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("%         2") for line in every) >= 40


def test_another_size_has_a_margin_of_its_own(tmp_path: Path, capsys: Capture) -> None:
    """The margin follows the rule that training has, which a run at that size shows."""
    data = "synthetic:64x40x3x5"
    for size in (32, 24):
        changes = {"train_size": 16, "test_size": size, "augment": "crop_flip", "epochs": 1}
        fit(tiny_recipe(tmp_path / f"{size}", data=data, **changes))
    cards = {size: load(tmp_path / f"{size}").card for size in (32, 24)}
    assert [cards[size].test_margin for size in (32, 24)] == [4, 3]
    assert run("eval", str(tmp_path / "32"), "--test-size", "24", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["test_size"], found["test_margin"]) == (24, 3)

    source = open_source(data, "val")
    predictor = load(tmp_path / "32")
    predictor.transform = card_transform(cards[24])  # the same weights as a network of 24 has them
    shares = predictor.probabilities([source.image(i) for i in range(len(source))])
    assert found["top1"] == pytest.approx(np.mean(shares.argmax(axis=1) == source.labels))
    logs = np.log(shares[np.arange(len(source)), source.labels])
    assert found["loss"] == pytest.approx(-logs.mean(), rel=1e-4)

    assert run("eval", str(tmp_path / "32"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["test_margin"] == 4


def test_a_graph_has_one_size(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("export", str(trained), str(tmp_path / "model.pt2")) == 0
    words = (str(tmp_path / "model.pt2"), "--data", "digits", "--trust")
    assert run("eval", *words, "--test-size", "16") == 1
    assert "takes images of 8 pixels only" in capsys.readouterr().err
    assert run("eval", *words, "--test-size", "8") == 0
    assert run("eval", *words, "--test-size", "0") == 2


def test_other_classes_are_refused(trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained), "--data", "synthetic:64x8x1x4") == 1
    message = capsys.readouterr().err
    assert "the network knows 10 classes, but synthetic:64x8x1x4 has 4" in message


def test_other_channels_are_refused(trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained), "--data", "synthetic:64x8x3x10") == 1
    assert "takes images of 1 channels" in capsys.readouterr().err


def test_other_names_are_a_warning(trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained), "--data", "synthetic:64x8x1x10") == 0
    assert "compared by their position" in capsys.readouterr().err


def test_a_device_is_resolved(trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained), "--device", "auto") == 0
    assert run("eval", str(trained), "--device", "cuda:99") == 1
    assert "cannot compute on --device cuda:99" in capsys.readouterr().err
