from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from normfree.analysis.reading import COLUMNS, Reading
from normfree.analysis.telemetry_file import TelemetryFile
from normfree.data import Batch
from normfree.errors import UserError
from normfree.report.classes import class_rows
from normfree.report.evaluation import (
    EvaluationFile,
    evaluation_of,
    read_evaluation,
    write_evaluation,
)
from normfree.report.page import write_report
from tests.unit.report.test_curves import LINES, written

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "link", "img", "br"}


class Tags(HTMLParser):
    """Every tag is closed by its own; collects what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: Path) -> str:
    """The page, which must be whole and stand by itself."""
    text = page.read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(link.startswith(("data:", "#")) for link in tags.fetched)
    assert "<script" not in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text)
    return text


def run_directory(path: Path) -> Path:
    path.mkdir()
    lines = [
        {**line, "images_per_second": 100.0, "data_wait": 0.1, "clipped": 0.3, "accuracy": 0.4}
        if line["kind"] == "train"
        else {**line, "seconds": 3.0}
        for line in LINES
    ]
    written(path, lines)
    (path / "config.yaml").write_text(f"recipe:\n  name: '{HOSTILE}'\n  seed: 0\n")
    (path / "environment.json").write_text(json.dumps({"processor": HOSTILE, "cores": 2}))
    layers = ["stem.0.weight", "stages.0.0.conv.weight", "classifier.weight"]
    file = TelemetryFile(path / "telemetry.bin", layers, [0.01, 0.01, None])
    for step in (2, 4):
        values = np.full((3, len(COLUMNS)), 0.25, np.float32)
        values[2, 0] = np.nan
        file.write(step, Reading(tuple(layers), values, steps=2))
    file.close()
    write_evaluation(path / "evaluation.json", evaluation())
    return path


def evaluation() -> EvaluationFile:
    """A network that answers by the brightness of an image, of three classes."""
    pixels = torch.arange(6.0)[:, None, None, None].expand(6, 1, 8, 8) * 40
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    batches = [Batch(pixels[i : i + 4], labels[i : i + 4], labels[i : i + 4]) for i in (0, 4)]
    answers = torch.tensor([0, 1, 1, 1, 0, 2])
    taken = iter((answers[:4], answers[4:]))

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * torch.nn.functional.one_hot(next(taken), 3).float()

    return evaluation_of(
        Network(), batches, lambda b: (b.images, b.labels), classes=("cat", HOSTILE, "élan & co")
    )


def test_mistakes_are_counted_and_kept() -> None:
    found = evaluation()
    assert found.images == 6
    assert found.confusion == ((0, 0, 1), (0, 1, 1), (1, 1, 2), (2, 0, 1), (2, 2, 1))
    assert [(e.classes, e.answer) for e in found.worst[:2]] == [((0,), 1), ((2,), 0)]
    assert {(e.classes[0], e.answer) for e in found.confused} == {(0, 1), (2, 0)}
    rows = {row.name: row for row in class_rows(found)}
    assert (rows["cat"].precision, rows["cat"].recall) == (0.5, 0.5)
    assert (rows[HOSTILE].precision, rows[HOSTILE].recall) == (2 / 3, 1.0)
    assert class_rows(found)[-1].name == HOSTILE


def test_images_of_several_classes_have_no_confusion() -> None:
    pixels = torch.zeros(2, 3, 200, 100)
    labels = torch.tensor([[True, True], [False, False]])
    found = evaluation_of(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60_000, 2)),
        [Batch(pixels, labels, labels[:, 0].long())],
        lambda batch: (batch.images, batch.labels),
        classes=("a", "b"),
        loss="sigmoid",
    )
    assert found.confusion == ()
    assert {example.classes for example in found.worst} == {(0, 1), ()}


@pytest.mark.parametrize(
    ("old", "new"), [(b'"classes"', b'"klasses"'), (b'"answer": 1', b'"answer": 9'), (b"{", b"[")]
)
def test_a_damaged_evaluation_is_said(tmp_path: Path, old: bytes, new: bytes) -> None:
    write_evaluation(tmp_path / "evaluation.json", evaluation())
    content = (tmp_path / "evaluation.json").read_bytes().replace(old, new, 1)
    (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(UserError, match="is not the evaluation of a run"):
        read_evaluation(tmp_path / "evaluation.json")


def test_a_whole_run(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run")
    text = checked(write_report([run], run / "report.html"))
    for heading in ("Curves", "Clipping", "Throughput", "Confusion", "Classes", "Largest losses"):
        assert f"<h2>{heading}</h2>" in text
    assert "&lt;script&gt;" in text
    assert "80.00%" in text  # the best of the averaged weights
    assert text.count("data:image/jpeg") == 6 + 2
    for chart in re.findall(r"<figure>.*?</figure>", text):
        assert "<figcaption>" in chart
        assert "<svg" not in chart or chart.count('class="mid name"') == 2  # named axes


@pytest.mark.parametrize("left", [("metrics.jsonl",), ("config.yaml",), ("metrics.jsonl", "x")])
def test_a_run_that_died(tmp_path: Path, left: tuple[str, ...]) -> None:
    run = run_directory(tmp_path / "run")
    for file in run.iterdir():
        if file.name not in left:
            file.unlink()
    if "metrics.jsonl" in left:
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "tra')
    text = checked(write_report([run], run / "report.html"))
    assert "no evaluation of single images" in text


def test_damaged_extras_are_noted(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run")
    for name in ("telemetry.bin", "evaluation.json", "environment.json"):
        (run / name).write_bytes(b"\x00 {")
    text = checked(write_report([run], run / "report.html"))
    assert "is not the telemetry of a run" in text
    assert "is not the evaluation of a run" in text


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    a, b = run_directory(tmp_path / "a&b"), run_directory(tmp_path / "b")
    (b / "config.yaml").write_text("recipe:\n  name: x\n  seed: 1\n")
    text = checked(write_report([a, b], tmp_path / "compared.html"))
    assert "<td>recipe.seed</td><td>0</td><td>1</td>" in text
    assert "a&amp;b: validation" in text


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        write_report([tmp_path], tmp_path / "report.html")


def test_pictures_of_a_page_are_pictures(tmp_path: Path) -> None:
    import base64
    import io

    run = run_directory(tmp_path / "run")
    text = write_report([run], run / "report.html").read_text()
    found = re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", text)
    assert len(found) > 8
    for one in found:
        with Image.open(io.BytesIO(base64.b64decode(one))) as image:
            image.verify()
