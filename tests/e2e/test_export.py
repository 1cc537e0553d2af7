"""Train, export to each kind of file, and classify with each: one answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from normfree.cli import main
from tests.e2e.command import assert_one_line, normfree

KINDS = (".safetensors", ".pt2", ".onnx")


@pytest.fixture(scope="module")
def run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "run"
    words = ("--data", f"folder:{photographs}", "--model", "nfnet_nano", "--epochs", "4")
    done = normfree("train", "folder", *words, "--batch-size", "8", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def predictions(checkpoint: Path, images: list[Path]) -> list[dict[str, float]]:
    """For each image: class → probability, likeliest first."""
    done = normfree("predict", checkpoint, *images, "--json", "--trust")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return [{guess["class"]: guess["probability"] for guess in image["classes"]} for image in found]


def test_every_file_predicts_what_the_run_does(run: Path, photographs: Path) -> None:
    images = sorted(photographs.glob("val/*/*.jpg"))
    want = predictions(run, images)
    assert len({*map(str, want)}) == len(images)
    for kind in KINDS:
        file = run / f"exported{kind}"
        done = normfree("export", run, file)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"wrote {file}, ")
        assert f"validation images of folder:{photographs}" in done.stdout
        assert "100.00% have the same top-1 class" in done.stdout
        found = predictions(file, images)
        for ours, theirs in zip(found, want, strict=True):
            assert list(ours) == list(theirs)
            assert ours == pytest.approx(theirs, abs=1e-6)


def test_an_export_is_evaluated_like_the_run(run: Path, photographs: Path) -> None:
    file = run / "again.pt2"
    assert normfree("export", run, file).returncode == 0
    data = ("--data", f"folder:{photographs}")
    exported, trained = (
        json.loads(normfree("eval", checkpoint, *data, "--json", "--trust").stdout)
        for checkpoint in (file, run)
    )
    assert exported.pop("loss") == pytest.approx(trained.pop("loss"), rel=1e-5)
    assert exported == trained
    assert_one_line(normfree("export", file, run / "b.onnx"), 1, "is exported already")


@pytest.mark.parametrize("kind", [".pt2", ".onnx"])
def test_the_fastest_form_predicts_what_the_run_does(
    kind: str, run: Path, photographs: Path
) -> None:
    images = sorted(photographs.glob("val/*/*.jpg"))
    file = run / f"fastest{kind}"
    done = normfree("export", run, file, "--optimize")
    assert done.returncode == 0, done.stderr
    assert "is the fastest for batches of 1, errors up to 0.001" in done.stdout
    for ours, theirs in zip(predictions(file, images), predictions(run, images), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_predicting_with_the_fastest_form(run: Path, photographs: Path) -> None:
    images = sorted(photographs.glob("val/*/*.jpg"))
    done = normfree("predict", run, *images, "--json", "--optimize")
    assert done.returncode == 0, done.stderr
    assert "is the fastest for batches of 1" in done.stderr
    for image, theirs in zip(json.loads(done.stdout), predictions(run, images), strict=True):
        ours = {guess["class"]: guess["probability"] for guess in image["classes"]}
        assert ours == pytest.approx(theirs, abs=1e-5)
    done = normfree("predict", run, *images, "--tolerance", "0.1")
    assert_one_line(done, 2, "--tolerance is for --optimize only")


def test_what_cannot_be_exported_is_said(run: Path, tmp_path: Path) -> None:
    done = normfree("export", run, tmp_path / "model.tflite")
    assert_one_line(done, 1, "model.tflite", ".onnx, .pt2, .safetensors")
    done = normfree("export", run, tmp_path / "model.pt2", "--int8")
    assert_one_line(done, 2, "--int8 needs OUT.onnx")
    done = normfree("export", run, tmp_path / "model.onnx", "--data", "digits")
    assert_one_line(done, 1, "takes images of 3 channels")
    assert not (tmp_path / "model.onnx").exists()
    done = normfree("export", run, tmp_path / "model.safetensors", "--optimize")
    assert_one_line(done, 2, "--optimize needs OUT.onnx or OUT.pt2")
    done = normfree("export", run, tmp_path / "model.onnx", "--tolerance", "0.1")
    assert_one_line(done, 2, "are for --optimize only")
    done = normfree("export", tmp_path / "absent", tmp_path / "model.onnx")
    assert_one_line(done, 1, "there is no")


def test_int8_keeps_the_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Quantized on 256 training digits, the network loses less than a point on the test digits.

    In one process: four would start for longer than they work.
    """

    def command(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code
        return capsys.readouterr().out

    run, file = str(tmp_path / "run"), str(tmp_path / "digits.onnx")
    command("train", "digits", "--epochs", "10", "--out", run)
    said = command("export", run, file, "--int8")
    exact, small = (json.loads(command("eval", checkpoint, "--json")) for checkpoint in (run, file))
    assert exact["top1"] > 0.9
    assert exact["top1"] - small["top1"] <= 0.01
    assert small["loss"] != exact["loss"]
    assert "on 256 validation images of digits" in said
    assert "points of accuracy on them" in said
