"""Files that are hostile to the terminal, and places that must not be written to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from normfree.cli import main
from normfree.weights import save_model
from tests.unit.weights.files import pico

Capture = pytest.CaptureFixture[str]
LABELS = ["\x1b[2Jcat", "dog\nmouse", "\u202egod", "é", "plain"]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code or 0  # type: ignore[return-value]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(pico(in_channels=1), path, card={"classes": LABELS, "mean": [1.0], "std": [2.0]})
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a\x1b[31m.png"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)
    return path


def test_a_terminal_is_not_obeyed(model: Path, image: Path, capsys: Capture) -> None:
    assert run("predict", model, image) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert len(out.splitlines()) == 6
    for text in ("\\x1b[2Jcat", "dog\\nmouse", "\\u202egod", "é", "plain", "a\\x1b[31m.png"):
        assert text in out


def test_json_is_json(model: Path, image: Path, capsys: Capture) -> None:
    assert run("predict", model, image, "--json") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    (found,) = json.loads(out, parse_constant=pytest.fail)
    assert found["image"] == str(image)
    assert sorted(guess["class"] for guess in found["classes"]) == sorted(LABELS)


def test_an_error_is_not_obeyed_either(model: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("predict", model, tmp_path / "none\x1b[2J.png") == 1
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert printed.count("\n") == 1


def places(directory: Path) -> dict[str, tuple[Path, str]]:
    """Where nothing may be written → why."""
    os.mkfifo(directory / "pipe.safetensors")
    (directory / "directory.safetensors").mkdir()
    (directory / "file").write_text("kept")
    (directory / "link.safetensors").symlink_to("/dev/null")
    return {
        "a pipe": (directory / "pipe.safetensors", "is not a regular file"),
        "a device": (Path("/dev/null"), "is not a regular file"),
        "a link to a device": (directory / "link.safetensors", "is not a regular file"),
        "a directory": (directory / "directory.safetensors", "is a directory"),
        "in a file": (directory / "file" / "x.safetensors", "cannot write"),
        "the source": (directory / "model.safetensors", "is the source itself"),
    }


@pytest.mark.parametrize("command", ["convert", "export"])
@pytest.mark.parametrize(
    "kind", ["a pipe", "a device", "a link to a device", "a directory", "in a file", "the source"]
)
def test_what_must_not_be_replaced(
    command: str, kind: str, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, message = places(tmp_path)[kind]
    before = model.read_bytes()
    status = out.lstat().st_mode if out.exists() else None
    assert run(command, model, out) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert model.read_bytes() == before
    assert (out.lstat().st_mode if out.exists() else None) == status
    assert (tmp_path / "file").read_text() == "kept"
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("name", ["new/deep/out.safetensors", "new/deep/out.pt2"])
def test_a_missing_directory_is_made(name: str, model: Path, tmp_path: Path) -> None:
    assert run("export", model, tmp_path / name) == 0
    assert (tmp_path / name).is_file()


def test_a_split_that_is_not_there(model: Path, capsys: Capture) -> None:
    assert run("eval", model, "--data", "digits", "--split", "train") == 2
    assert "--split must be val" in capsys.readouterr().err


def test_a_network_that_diverged_is_evaluated_and_said(model: Path, capsys: Capture) -> None:
    """Finite weights, infinite logits: JSON has no word for the loss."""
    network = pico(in_channels=1, num_classes=10)
    with torch.no_grad():
        network.classifier.weight.fill_(3e38)  # type: ignore[union-attr,operator]
    card = {"classes": list("0123456789"), "mean": [1.0], "std": [2.0]}
    save_model(network, model, card=card)
    assert run("eval", model, "--data", "digits", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out, parse_constant=pytest.fail)["loss"] is None
    assert "not finite" in printed.err
