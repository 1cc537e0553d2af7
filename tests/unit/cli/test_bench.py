from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from normfree.cli import main

Capture = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["bench", *words])
    return end.value.code or 0  # type: ignore[return-value]


def test_infer(tmp_path: Path, capsys: Capture) -> None:
    file, threads = tmp_path / "new" / "found.json", torch.get_num_threads()
    words = ("--models", "nfnet_pico", "nf_regnet_b0", "--size", "33", "--rounds", "2")
    forms = ("--forms", "folded", "channels_last", "bfloat16", "--threads", "1")
    assert run("infer", *words, *forms, "--json", str(file)) == 0
    assert torch.get_num_threads() == threads
    said, measured = capsys.readouterr(), ["trained", *forms[1:4]]
    if "bfloat16 is left out: it needs a processor" in said.err:
        measured.remove("bfloat16")
    assert sum(line.startswith("nf") for line in said.out.splitlines()) == 2 * len(measured)
    found = json.loads(file.read_text())
    assert (found["benchmark"], found["threads"]) == ("infer", 1)
    assert [row["form"] for row in found["results"]] == 2 * measured
    for row in found["results"]:
        seconds = row["seconds"]
        assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]
        assert seconds["calls"] == 2
        assert (row["size"], row["batch_size"]) == (33, 1)
        match row["form"]:
            case "trained":
                assert (row["error"], row["speedup"]) == (0, 1)
            case "bfloat16":
                assert 1e-4 < row["error"] < 0.1
            case _:
                assert 0 < row["error"] < 1e-5


def test_infer_with_onnx_runtime(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    words = ("--models", "nfnet_pico", "--forms", "onnx", "--rounds", "2", "--json", str(file))
    assert run("infer", *words) == 0
    _, row = json.loads(file.read_text())["results"]
    assert (row["form"], row["size"]) == ("onnx", 8)
    assert 0 < row["error"] < 1e-4


def test_infer_says_what_the_forms_and_the_peer_need(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run("infer", "--forms", "prepaked") == 1
    assert "did you mean prepacked" in capsys.readouterr().err
    assert run("infer", "--models", "nfnet_pico", "--peers") == 1
    monkeypatch.setitem(sys.modules, "timm", None)
    assert run("infer", "--models", "nfnet_f0", "--peers") == 1
    assert "--peers needs timm: pip install timm torchvision" in capsys.readouterr().err


def test_what_cannot_be_measured_is_said(capsys: Capture) -> None:
    assert run("infr") == 2
    assert "did you mean infer?" in capsys.readouterr().err
    assert run("infer", "--rounds", "1") == 2
    assert "--rounds must be at least 2, not 1" in capsys.readouterr().err
    assert run("infer", "--models", "nfnet_f00") == 1
    assert "did you mean nfnet_f0" in capsys.readouterr().err
    assert run() == 0
    assert "infer" in capsys.readouterr().out


def test_train(tmp_path: Path, capsys: Capture) -> None:
    file, threads = tmp_path / "new" / "found.json", torch.get_num_threads()
    data = ("--set", "data=synthetic:32x8x1x4", "batch_size=8")
    variants = (
        "sam_rho=5e-2,sam_fraction=0.25,clipping=None",
        "mixing=mixup_cutmix,pairing=two_batches",
    )
    words = ("--recipe", "digits", *data, "--variants", *variants, "--rounds", "2")
    assert run("train", *words, "--threads", "1", "--json", str(file)) == 0
    assert torch.get_num_threads() == threads
    assert len(capsys.readouterr().out.splitlines()) == 4
    found = json.loads(file.read_text())
    assert (found["benchmark"], found["threads"], found["recipe"]) == ("train", 1, "digits")
    assert [row["settings"] for row in found["results"]] == ["recipe", *variants]
    assert found["results"][0]["cost"] == 1
    for row in found["results"]:
        seconds = row["seconds"]
        assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]
        assert row["images_per_second"] == pytest.approx(8 / seconds["median"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--variants", "sam_roh=0.05"], "did you mean --sam-rho"),
        (["--variants", "sam_rho"], "a setting is name=value, not 'sam_rho'"),
        (["--set", "sam_rho=much"], "--sam-rho"),
        (["--rounds", "1"], "--rounds must be at least 2"),
        (["--threads", "0"], "--threads must be from 1 to"),
    ],
)
def test_what_cannot_be_trained_is_said(words: list[str], said: str, capsys: Capture) -> None:
    assert run("train", *words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("benchmark", ["train", "infer", "augment", "optim"])
@pytest.mark.parametrize("threads", ["0", "-1", "100000"])
def test_threads_are_bounded_by_the_cores(
    benchmark: str, threads: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", benchmark, "--threads", threads])
    assert end.value.code == 2
    assert "--threads must be from 1 to" in capsys.readouterr().err
