"""The main job reaches what its recipe promises."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.command import normfree


def test_the_default_run_classifies_digits(tmp_path: Path) -> None:
    assert normfree("train", "--device", "cpu", "--out", tmp_path / "run").returncode == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = [line for line in map(json.loads, lines) if line["kind"] == "epoch"][-1]
    assert last["epoch"] == 30
    assert last["val_top1_ema"] >= 0.97
    for name in ("config.yaml", "model.safetensors", "curves.png", "checkpoints"):
        assert (tmp_path / "run" / name).exists()
