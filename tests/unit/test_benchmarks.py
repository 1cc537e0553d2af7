"""The scripts in ``benchmarks`` that compare, draw and write pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import figure1, gpu, suite
from benchmarks.stored import Ratio, newest_ratios, read_ratios, table

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def seconds(median: float) -> dict[str, float]:
    return {"median": median, "low": 0.9 * median, "high": 1.1 * median, "calls": 5}


def ratio_row(ours: str, total: float) -> dict[str, Any]:
    ratio = {"median": total, "low": 0.9 * total, "high": 1.1 * total}
    names = {"network": "nfnet_f0", "our_form": "eager", "form": "eager", "ours": ours}
    return {**names, "against": "timm", "phases": {"total": ratio}, "memory": None}


TRAIN = {
    "benchmark": "train_networks",
    "processor": "P",
    "options": {"size": 96, "batch_size": 4, "precision": "float32"},
    "peer_ratios": [ratio_row("nfnet_f0", 1.2), ratio_row("nfnet_f0, channels_last", 1.6)],
    "twin_ratios": [],
}


def test_the_fastest_layout_counts() -> None:
    (name,) = ratios = read_ratios(TRAIN, "x.json")
    assert name == "train nfnet_f0, 96 px, batch 4, float32: total, eager against timm eager"
    assert ratios[name] == Ratio(1.6, 0.9 * 1.6, 1.1 * 1.6, "x.json, P")


def test_the_newest_file_counts_and_what_is_worse_is_marked(tmp_path: Path) -> None:
    infer = {
        "benchmark": "infer",
        "results": [
            {"model": "m", "size": 8, "batch_size": 1, "form": form, "seconds": seconds(median)}
            for form, median in (("trained", 3.0), ("folded", 1.0))
        ],
    }
    older = {**TRAIN, "peer_ratios": [ratio_row("nfnet_f0", 1.0)]}
    (tmp_path / "2026-01-01_a.json").write_text(json.dumps(older))
    (tmp_path / "2026-01-02_b.json").write_text(json.dumps({"runs": [TRAIN, infer]}))
    (tmp_path / "2026-01-03_other.json").write_text(json.dumps({"benchmark": "int8"}))
    stored = newest_ratios(tmp_path)
    train, folded = stored
    assert stored[train].median == 1.6
    assert folded == "infer m, 8 px, batch 1: folded against trained"
    assert stored[folded].median == 3.0
    assert stored[folded].low == pytest.approx(3 * 0.9 / 1.1)
    today = {train: Ratio(1.3, 1.2, 1.4), folded: Ratio(2.9, 2.4, 3.2), "new": Ratio(1, 1, 1)}
    marks = [cells[3:] for cells in table(today, stored)]
    source = stored[train].source
    assert marks == [("worse", source), ("", stored[folded].source), ("", "not stored")]


def test_the_stored_results_can_be_read() -> None:
    assert any(name.startswith("optim nfnet_f0") for name in newest_ratios())


def test_the_suite_on_a_few_layers(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "found.json"
    assert suite.run(["--tiny", "--rounds", "2", "--json", str(file)]) == 0
    runs = json.loads(file.read_text())["runs"]
    assert [run["benchmark"] for run in runs] == ["train_networks", "optim", "infer"]
    assert "AGCSGD" in capsys.readouterr().out


def test_what_needs_a_gpu_on_a_few_layers(tmp_path: Path) -> None:
    file, page = tmp_path / "new" / "found.json", tmp_path / "page.md"
    gpu.main(["--device", "cpu", "--tiny", "--json", str(file), "--page", str(page)])
    found = json.loads(file.read_text())
    measured, failed = found["runs"]
    assert [row["network"] for row in measured["results"]] == ["nfnet_pico"] * 2
    assert "unknown model" in failed["failed"]
    text = page.read_text()
    assert "| nfnet_pico, channels_last | 16 |" in text
    assert f"Not measured: {failed['failed']}" in text
    assert "not applicable" in text


def test_the_figure_marks_the_papers_accuracy(tmp_path: Path) -> None:
    def row(by: str, network: str, median: float) -> dict[str, Any]:
        return {"by": by, "network": network, "phases": {"total": seconds(median)}}

    rows = [
        row("normfree", "nfnet_f0", 2.0),
        row("normfree", "nfnet_f0", 1.5),
        row("normfree", "bn_nfnet_f0", 1.8),
        row("timm", "dm_nfnet_f0", 2.5),
        row("timm", "efficientnet_b0", 0.5),
        row("normfree", "nf_resnet50", 1.0),
    ]
    found = {(one.series, one.name): one for one in figure1.points(rows)}
    assert {name: one.accuracy for (_, name), one in found.items()} == {
        "nfnet_f0": 83.6,
        "bn_nfnet_f0": 83.4,
        "dm_nfnet_f0": 83.6,
        "efficientnet_b0": 77.1,
    }
    assert found["NFNet", "nfnet_f0"].median == 1.5
    where = {"accelerator": None, "processor": "P", "threads": 2, "options": {"batch_size": 4}}
    for name in ("a.svg", "b.svg"):
        figure1.draw({"results": rows, **where}, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_stored_results_that_pages_point_to_exist(page: str) -> None:
    for file in re.findall(r"benchmarks/results/[\w.-]+\.json", (ROOT / page).read_text()):
        assert (ROOT / file).is_file(), file
