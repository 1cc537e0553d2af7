"""From weights to a classifier of one's own photographs, by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command import assert_one_line, normfree

SMALL = [
    *("--model", "nfnet_pico", "--train-size", "16", "--test-size", "16", "--batch-size", "8"),
    *("--accumulate", "2", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that knows other classes."""
    out = tmp_path_factory.mktemp("weights") / "run"
    words = ("--data", "synthetic:32x16x3x4", "--epochs", "1", "--augment", "none", "--out", out)
    result = normfree("train", "digits", *SMALL, *words)
    assert result.returncode == 0, result.stderr
    return out / "model.safetensors"


def test_finetune_on_a_folder_with_the_whole_recipe(
    photographs: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    whole = ("--sam-rho", "0.05", "--sam-fraction", "0.2", "--mixing", "mixup_cutmix")
    data = ("--data", f"folder:{photographs}", "--init", trained, "--epochs", "2", "--out", out)
    augment = ("--randaugment-layers", "2", "--freeze", "1")
    result = normfree("train", "finetune", *SMALL, *data, *whole, *augment)
    assert result.returncode == 0, result.stderr
    assert (
        f"weights from {trained}, nfnet_pico: all but the classifier, which is new" in result.stdout
    )
    assert "20% of each batch ascends" in result.stdout
    found = normfree("eval", out, "--json")
    assert found.returncode == 0, found.stderr
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    best = max(
        json.loads(line).get(name, -1)
        for name in ("val_top1", "val_top1_ema")
        for line in (out / "metrics.jsonl").read_text().splitlines()
    )
    assert last["kind"] == "epoch"
    assert json.loads(found.stdout)["top1"] == best


def test_finetune_without_weights_says_how_to_give_them(photographs: Path, tmp_path: Path) -> None:
    words = ("train", "finetune", "--data", f"folder:{photographs}", "--out", tmp_path / "run")
    assert_one_line(normfree(*words), 1, "--init weights.safetensors", "there are no weights")


def test_every_step_of_the_paper_can_be_tried_in_its_smoke_form(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = normfree("train", "imagenet_nfnet_f5_sam", "--smoke", "--out", out)
    assert result.returncode == 0, result.stderr
    assert (out / "model.safetensors").exists()
