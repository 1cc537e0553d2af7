from __future__ import annotations

from pathlib import Path

import pytest

from normfree.errors import UserError
from normfree.report.metrics import read_metrics
from normfree.train.metrics import MetricsFile


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.write(kind="train", step=1, loss=0.1 + 0.2)
    metrics.write(kind="epoch", step=1)
    assert read_metrics(path) == [
        {"kind": "train", "step": 1, "loss": 0.1 + 0.2},
        {"kind": "epoch", "step": 1},
    ]
    metrics.close()


def test_going_on_drops_what_is_after_the_checkpoint_and_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [f'{{"kind": "train", "step": {step}}}\n' for step in (2, 4, 5, 6)]
    path.write_text(lines[0] + lines[1] + lines[3] + '{"step": 8, "lo')
    metrics = MetricsFile(path, after=4)
    metrics.write(kind="train", step=5)
    metrics.sync()
    metrics.close()
    assert path.read_text() == "".join(lines[:3])


def test_it_knows_which_kinds_of_lines_there_are(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert not metrics.has("test", 3)
    metrics.write(kind="test", step=3)
    assert metrics.has("test", 3)
    metrics.close()
    again = MetricsFile(tmp_path / "metrics.jsonl", after=3)
    assert again.has("test", 3)
    again.close()


@pytest.mark.parametrize(
    "line",
    [
        *(b"{", b"[1]", b"{}", b'{"kind": "train", "step": "1"}', b"\xff", b"[" * 10**5),
        b'{"kind": {}, "step": 1}',
        b'{"kind": "other", "step": 1}',
        b'{"kind": "train", "step": true}',
        b'{"kind": "train", "step": -1}',
        b'{"kind": "train", "step": 1.0}',
        b'{"kind": "train", "step": 1, "loss": NaN}',
        b'{"kind": "train", "step": 1, "loss": 1e999}',
        b'{"kind": "train", "step": 1, "loss": []}',
        b'{"kind": "train", "step": 1, "loss": true}',
        b'{"kind": "train", "step": 1, "loss": 1' + b"0" * 1000 + b"}",
        b'{"kind": "train", "step": 1, "loss": 1' + b"0" * 10000 + b"}",
        b'{"kind": "train", "step": 1, "note": "' + b"x" * 1000 + b'"}',
    ],
    ids=lambda line: line[:50].decode(errors="replace"),
)
def test_a_damaged_line_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "train", "step": 1}\n' + line + b"\n")
    with pytest.raises(UserError, match=f"line 2 of {path} is damaged"):
        read_metrics(path)


def test_a_new_run_starts_an_empty_file(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_number_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write(kind="epoch", step=1, val_loss=float("inf"))
    metrics.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"kind": "epoch", "step": 1, "val_loss": None}
    ]
