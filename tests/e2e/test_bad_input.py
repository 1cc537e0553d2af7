"""What people get wrong: each is one line that says what to do, and no traceback."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.command import ENVIRONMENT, NORMFREE, assert_one_line, normfree

TINY = [
    *("train", "folder", "--model", "nfnet_pico", "--train-size", "16", "--test-size", "16"),
    *("--epochs", "2", "--batch-size", "4", "--device", "cpu"),
]


@pytest.fixture
def damaged(photographs: Path, tmp_path: Path) -> Path:
    """Photographs of which one is cut off in the middle."""
    directory = tmp_path / "damaged"
    shutil.copytree(photographs, directory)
    image = directory / "train" / "flower" / "3.jpg"
    image.write_bytes(image.read_bytes()[:700])
    return directory


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["trian"], 2, ["unknown command 'trian'", "did you mean train?"]),
        (["train", "digist"], 2, ["unknown recipe 'digist'", "did you mean digits?"]),
        (["train", "--batchsize", "8"], 2, ["unknown option '--batchsize'", "--batch-size"]),
        (["train", "--epochs", "ten"], 2, ["--epochs", "'ten'", "--help"]),
        (["train", "--model", "nfnet_pcio"], 1, ["unknown model 'nfnet_pcio'", "nfnet_pico"]),
        (["train", "--data", "digist"], 1, ["unknown source 'digist'", "did you mean digits?"]),
        (["train", "--data", "folder:nowhere"], 1, ["nowhere"]),
        (["train", "--data", "folder:empty"], 1, ["empty"]),
        (["train", "--data", "idx:nowhere"], 1, ["nowhere"]),
        (["train", "--resume"], 1, ["no runs/digits-N to go on with", "--out"]),
        (["train", "--resume", "--out", "empty"], 1, ["empty holds no run", "--resume"]),
        (["train", "--out", "full"], 1, ["full is not empty", "another --out"]),
        (["train", "--batch-size", "100000"], 1, ["lower --batch-size"]),
        (["eval", "nowhere"], 1, ["there is no nowhere", "model.safetensors"]),
        (
            ["predict", "full/letter.txt", "a.png"],
            1,
            ["letter.txt holds no weights"],
        ),
        (["info", "nfnet_f9"], 1, ["unknown model 'nfnet_f9'", "nfnet_f"]),
    ],
)
def test_wrong_words(words: list[str], code: int, parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("Dear network")
    assert_one_line(normfree(*words, cwd=tmp_path), code, *parts)
    assert not (tmp_path / "runs").exists(), "a run that cannot start leaves nothing behind"


def test_debug_shows_where(tmp_path: Path) -> None:
    result = normfree("info", "nfnet_f9", "--debug", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_a_class_without_images(photographs: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    shutil.copytree(photographs, directory)
    for image in (directory / "train" / "china").iterdir():
        image.unlink()
    result = normfree(*TINY, "--data", f"folder:{directory}", "--out", tmp_path / "run")
    assert_one_line(result, 1, str(directory / "train" / "china"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_stops_the_run_and_is_named(
    workers: int, damaged: Path, tmp_path: Path
) -> None:
    words = [*TINY, "--data", f"folder:{damaged}", "--out", tmp_path / "run"]
    result = normfree(*words, "--workers", str(workers))
    name = str(damaged / "train" / "flower" / "3.jpg")
    assert_one_line(result, 1, f"cannot read image {name}", "--on-bad-image skip")


@pytest.mark.parametrize("name", ["train/flower/3.jpg", "val/china/1.jpg"])
def test_after_an_unreadable_image_the_run_can_go_on_without_it(
    name: str, photographs: Path, tmp_path: Path
) -> None:
    directory, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(photographs, directory)
    (directory / name).write_bytes(b"")
    stopped = normfree(*TINY, "--data", f"folder:{directory}", "--out", run)
    advice = f"normfree train --resume --out {run}"
    assert_one_line(stopped, 1, str(directory / name), advice, "--on-bad-image skip")
    assert list((run / "checkpoints").glob("step-*"))
    resumed = normfree(*advice.split()[1:], "--on-bad-image", "skip")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "1 images could not be read and were skipped:" in resumed.stdout
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_can_be_skipped_and_is_counted(
    workers: int, damaged: Path, tmp_path: Path
) -> None:
    words = [*TINY, "--data", f"folder:{damaged}", "--out", tmp_path / "run"]
    result = normfree(*words, "--workers", str(workers), "--on-bad-image", "skip")
    assert (result.returncode, result.stderr) == (0, "")
    assert "1 images could not be read and were skipped:" in result.stdout
    assert str(damaged / "train" / "flower" / "3.jpg") in result.stdout


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_good_checkpoint(
    tmp_path: Path,
) -> None:
    words = ["train", "--out", "run", "--epochs", "3", "--device", "cpu", "--lr", "1e38"]
    result = normfree(*words, "--clipping", "None", "--checkpoint-every", "1", cwd=tmp_path)
    assert_one_line(result, 1, "is not finite at step ", "Lower the learning rate")
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert normfree("eval", "run", cwd=tmp_path).returncode == 0


def test_the_network_and_its_files(photographs: Path, tmp_path: Path) -> None:
    """Train, evaluate and predict; then everything that can be wrong with the product."""
    data, run = f"folder:{photographs}", tmp_path / "run"
    trained = normfree(*TINY, "--data", data, "--out", run)
    assert (trained.returncode, trained.stderr) == (0, "")

    evaluated = normfree("eval", run, "--data", data)
    assert (evaluated.returncode, evaluated.stderr) == (0, "")
    assert "8 images classified, 0 unreadable" in evaluated.stdout
    shutil.copytree(photographs / "val" / "flower", tmp_path / "held-out" / "val" / "flower")
    held_out = normfree("eval", run, "--data", f"folder:{tmp_path / 'held-out'}")
    assert (held_out.returncode, held_out.stderr) == (0, "")
    assert "4 images classified, 0 unreadable" in held_out.stdout
    image = photographs / "val" / "flower" / "0.jpg"
    (tmp_path / "alone").mkdir()
    shutil.copy(run / "model.safetensors", tmp_path / "alone" / "net.safetensors")
    predicted = normfree("predict", tmp_path / "alone" / "net.safetensors", image)
    assert (predicted.returncode, predicted.stderr) == (0, "")
    assert "flower" in predicted.stdout

    again = normfree(*TINY, "--data", data, "--out", run)
    assert_one_line(again, 1, "holds another run", "--resume", "another --out")
    other = normfree(*TINY, "--data", data, "--out", run, "--resume", "--epochs", "5")
    assert_one_line(other, 1, "epochs: 2 → 5")
    counts = normfree("eval", run, "--data", "digits")
    assert_one_line(counts, 1, "knows 2 classes, but digits has 10", "normfree train")
    (tmp_path / "letter.jpg").write_text("Dear network")
    letter = normfree("predict", run, tmp_path / "letter.jpg")
    assert_one_line(letter, 1, f"cannot read image {tmp_path / 'letter.jpg'}")
    for path in (run / "checkpoints").iterdir():
        state = path / "state.json"
        state.write_bytes(state.read_bytes()[:500])
        assert_one_line(normfree("eval", path), 1, f"{path}", "state.json")
    resumed = normfree("train", "--resume", "--out", run)
    assert_one_line(resumed, 1, "none of the 2 checkpoints", "can be read")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    with subprocess.Popen(
        [NORMFREE, "train", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE
