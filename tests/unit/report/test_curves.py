from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from normfree.errors import UserError
from normfree.report.curves import plot_curves

LINES = [
    {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0, "lr": 0.1},
    {"kind": "train", "step": 2, "epoch": 1.0, "loss": 1.0, "lr": 0.0},
    {"kind": "epoch", "step": 2, "epoch": 1, "train_accuracy": 0.5},
    {
        "kind": "epoch",
        "step": 4,
        "epoch": 2,
        "train_accuracy": 0.6,
        "val_top1": 0.7,
        "val_top1_ema": 0.8,
        "val_loss": 0.9,
        "val_loss_ema": 0.8,
    },
]


def written(directory: Path, lines: list[dict[str, object]]) -> Path:
    path = directory / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    said = plot_curves(written(tmp_path, LINES), tmp_path / "curves.png")
    assert "curves.png" in said
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size[0] > 1000
        assert len(set(image.convert("L").tobytes())) > 10


def test_a_run_too_short_for_a_report_can_be_drawn(tmp_path: Path) -> None:
    plot_curves(written(tmp_path, LINES[2:3]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said = plot_curves(written(tmp_path, LINES), tmp_path / "curves.png")
    assert "pip install 'normfree[report]'" in said
    assert not (tmp_path / "curves.png").exists()


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    odd: list[dict[str, object]] = [
        {"kind": "train", "step": 1, "epoch": epoch, "loss": loss, "lr": 0.1}
        for epoch, loss in ((None, 1.0), (1.0, None), (2.0, "x"), (3.0, 1e308), (4.0, -1e308))
    ]
    plot_curves(written(tmp_path, [*odd, {"kind": "epoch", "step": 1}]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_large_values_and_many_lines_are_drawn(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"kind": "train", "step": step, "epoch": step / 9, "loss": (-1) ** step * 1e30, "lr": 0.0}
        for step in range(50_000)
    ]
    plot_curves(written(tmp_path, lines), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_a_damaged_line_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1 of .* is damaged"):
        plot_curves(written(tmp_path, [{"kind": {}}]), tmp_path / "curves.png")
