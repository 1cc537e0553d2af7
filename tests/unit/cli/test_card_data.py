"""No command opens a path that the card of a file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from normfree.cli import main
from normfree.weights import save_model
from tests.unit.weights.files import pico

Capture = pytest.CaptureFixture[str]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code or 0  # type: ignore[return-value]


def network(path: Path, data: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    classes = list("0123456789")
    card = {"classes": classes, "mean": [1.0], "std": [2.0], "data": data, "test_size": 8}
    save_model(pico(in_channels=1, num_classes=10), path, card=card)
    return path


@pytest.mark.parametrize("data", ["folder:/etc", "idx:/etc", "mine:\x1b[2J", "folder:digits"])
@pytest.mark.parametrize("words", [("eval",), ("export", "--int8")])
def test_a_path_of_a_file_is_not_opened(
    words: tuple[str, ...],
    data: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("normfree.data.open_source", lambda *_, **__: pytest.fail("opened"))
    model = network(tmp_path / "run" / "model.safetensors", data)
    command, *flags = words
    out = [tmp_path / "out.onnx"] if command == "export" else []
    for place in (model, model.parent):  # a directory without config.yaml is no run of the user
        assert run(command, place, *out, *flags) == 1
        printed = capsys.readouterr().err
        assert data.replace("\x1b", "\\x1b") in printed
        assert "--data" in printed
        assert "\x1b" not in printed
        assert printed.count("\n") == 1


@pytest.mark.parametrize("data", ["digits", "synthetic:64x8x1x10"])
def test_a_built_in_source_of_a_file_is_used(data: str, tmp_path: Path, capsys: Capture) -> None:
    assert run("eval", network(tmp_path / "model.safetensors", data)) == 0
    assert capsys.readouterr().out.startswith(f"{data}: accuracy")


def test_a_run_directory_names_its_images(tmp_path: Path, capsys: Capture) -> None:
    model = network(tmp_path / "run" / "model.safetensors", f"folder:{tmp_path / 'absent'}")
    (model.parent / "config.yaml").touch()
    assert run("eval", model.parent) == 1
    assert f"there is no directory {tmp_path / 'absent'}" in capsys.readouterr().err
