from __future__ import annotations

import json
from pathlib import Path

import pytest

from normfree.cli import main

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
    assert found["top1"] == lines[-1]["val_top1_ema"]
    assert found["loss"] == pytest.approx(lines[-1]["val_loss_ema"], rel=1e-6)


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoints/step-00000022"])
def test_eval_takes_files_too(file: str, trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained), "--json") == 0
    directory = json.loads(capsys.readouterr().out)
    assert run("eval", str(trained / file), "--data", "digits", "--json") == 0
    assert json.loads(capsys.readouterr().out) == directory


def test_eval_for_people(trained: Path, capsys: Capture) -> None:
    assert run("eval", str(trained)) == 0
    assert "355 images classified, 0 unreadable" in capsys.readouterr().out


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
