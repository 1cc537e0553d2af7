"""``normfree bench train --models``."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from normfree.analysis.complexity import count_macs, count_parameters
from normfree.factory import create_model
from tests.unit.cli.test_bench import Capture, run

SMALL = ("--batch-size", "2", "--size", "16", "--rounds", "2", "--threads", "1")
PHASES = ["forward", "backward", "update", "total"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_phase_of_every_form(precision: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "new" / "found.json"
    words = ("--models", "nfnet_pico", "--no-memory", "--precision", precision)
    assert run("train", *words, *SMALL, "--json", str(file)) == 0
    found = json.loads(file.read_text())
    assert (found["benchmark"], found["threads"]) == ("train_networks", 1)
    assert found["options"]["batch_size"] == 2
    assert found["options"]["models"] == ["nfnet_pico"]
    assert "recipe" not in found["options"]
    assert (found["peer_ratios"], found["twin_ratios"]) == ([], [])
    contiguous, last = found["results"]
    assert (contiguous["layout"], last["layout"]) == ("contiguous", "channels_last")
    model, rates = create_model("nfnet_pico"), found["ceilings"]
    for row in (contiguous, last):
        assert [*row["phases"]] == PHASES
        for latency in row["phases"].values():
            assert 0 < latency["low"] <= latency["median"] <= latency["high"]
            assert latency["calls"] == 2
        assert (row["precision"], row["memory_bytes"]) == (precision, None)
        assert row["parameters"] == count_parameters(model)
        assert row["flops"] == 2 * 6 * count_macs(model, 16)
        total = row["phases"]["total"]["median"]
        assert row["images_per_second"] == pytest.approx(2 / total)
        rate = row["flops"] / total
        assert row["matrix_fraction"] == pytest.approx(rate / rates["matrix"]["per_second"])
    # A heading, two rows, and the peaks, which are a line or two.
    assert "measured peaks" in capsys.readouterr().out


def test_the_batch_normalized_twin(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    words = ("--models", "nf_resnet50", "--twins", "--no-memory", "--layouts", "channels_last")
    assert run("train", *words, *SMALL, "--json", str(file)) == 0
    found = json.loads(file.read_text())
    assert [row["network"] for row in found["results"]] == ["nf_resnet50", "bn_resnet50"]
    ours, twin = (row["phases"]["total"] for row in found["results"])
    (ratio,) = found["twin_ratios"]
    assert (ratio["network"], ratio["against"]) == ("nf_resnet50", "bn_resnet50, channels_last")
    total = ratio["phases"]["total"]
    assert total["median"] == pytest.approx(twin["median"] / ours["median"])
    assert total["low"] <= total["median"] <= total["high"]
    assert found["peer_ratios"] == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells peak memory")
def test_memory_of_a_fresh_process(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    words = ("--models", "nfnet_pico", "--layouts", "contiguous")
    assert run("train", *words, *SMALL, "--json", str(file)) == 0
    (row,) = json.loads(file.read_text())["results"]
    weights = 4 * row["parameters"]
    assert row["memory_bytes"] > 3 * weights  # with momentum and average; not gradients' alone
    assert row["memory_bytes"] < 500e6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "nfnet_f00"], "did you mean nfnet_f0"),
        (["--models", "nfnet_pico", "--batch-size", "1"], "--batch-size must be at least 2, not 1"),
        (["--models", "nfnet_pico", "--size", "4"], "--size must be at least 8, not 4"),
        (["--models", "nfnet_pico", "--rounds", "1"], "--rounds must be at least 2"),
        (["--models", "nfnet_pico", "--set", "lr=1"], "--set does not go with --models"),
        (["--models", "nfnet_pico", "--variants", "lr=1"], "--variants does not go with --models"),
        (["--models", "nfnet_pico", "--layouts"], "--layouts needs at least one value"),
        (["--models", "nfnet_pico", "--forms", "cuda_graphs"], "needs --device cuda"),
        (["--models", "nfnet_pico", "--precision", "int8"], "--precision"),
        (["--models", "nfnet_pico", "--device", "abacus"], "abacus"),
        (["--peers"], "--peers needs --models"),
        (["--twins"], "--twins needs --models"),
        (["--size", "96"], "--size needs --models"),
        (["--precision", "bfloat16"], "--precision needs --models"),
    ],
)
def test_what_cannot_be_measured_is_said(words: list[str], said: str, capsys: Capture) -> None:
    assert run("train", *words) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "said"),
    [("timm", "pip install 'normfree[bench]'"), ("torchvision", "python benchmarks/peers.py")],
)
def test_without_timm_it_says_what_to_install(
    missing: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("normfree.analysis.training.peers.import_module", refuse)
    assert run("train", "--models", "nf_resnet50", "--peers") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_beside_timm(tmp_path: Path) -> None:
    """In a process of its own, because the stand-in for torchvision stays."""
    file, root = tmp_path / "found.json", Path(__file__).parents[3]
    words = ("--models", "nf_resnet50", "--peers", "--others", "resnet26", "--no-memory")
    layouts = ("--layouts", "channels_last")
    script = [sys.executable, root / "benchmarks/peers.py", "train"]
    command = [*script, *words, *SMALL, *layouts, "--json", file]
    subprocess.run(command, check=True, cwd=root, capture_output=True)
    found = json.loads(file.read_text())
    names = [(row["by"], row["network"]) for row in found["results"]]
    assert names == [
        ("normfree", "nf_resnet50"),
        ("timm", "nf_resnet50"),
        ("timm", "resnet26"),
    ]
    ours, theirs, _ = found["results"]
    assert theirs["flops"] == pytest.approx(ours["flops"], rel=0.02)
    assert theirs["parameters"] == pytest.approx(ours["parameters"], rel=0.01)
    (ratio,) = found["peer_ratios"]
    assert ratio["against"] == "timm nf_resnet50, channels_last"
    assert [*ratio["phases"]] == PHASES
    assert found["timm"]


def test_updates_in_the_backward_pass(tmp_path: Path, capsys: Capture) -> None:
    """A phase less; it is compared with both phases of the twin."""
    file = tmp_path / "found.json"
    words = ("--models", "nfnet_f0", "--twins", "--no-memory", "--layouts", "channels_last")
    updates = ("--updates", "after", "in_backward")
    assert run("train", *words, *updates, *SMALL, "--json", str(file)) == 0
    found = json.loads(file.read_text())
    rows = {row["label"]: row for row in found["results"]}
    early = rows["nfnet_f0, channels_last, in_backward"]
    assert [*early["phases"]] == ["forward", "backward", "total"]
    assert early["weight_fraction"] is None
    assert early["label"] in capsys.readouterr().out
    twin = min(
        (row for row in found["results"] if row["network"] == "bn_nfnet_f0"),
        key=lambda row: row["phases"]["total"]["median"],
    )
    (ratio,) = (row for row in found["twin_ratios"] if row["ours"] == early["label"])
    theirs = [
        twin["phases"][name]["median"] for name in ("backward", "update") if name in twin["phases"]
    ]
    want = sum(theirs) / early["phases"]["backward"]["median"]
    assert ratio["phases"]["backward"]["median"] == pytest.approx(want)


def test_in_backward_needs_gradients_that_are_not_scaled(capsys: Capture) -> None:
    words = ("--models", "nfnet_pico", "--updates", "in_backward", "--precision", "float16")
    assert run("train", *words, *SMALL) == 2
    assert "not scaled" in capsys.readouterr().err


def test_threads_are_given_back() -> None:
    threads = torch.get_num_threads()
    words = ("--models", "nfnet_pico", "--no-memory", "--layouts", "contiguous")
    assert run("train", *words, *SMALL) == 0
    assert torch.get_num_threads() == threads
