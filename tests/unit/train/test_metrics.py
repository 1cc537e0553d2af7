from __future__ import annotations

from pathlib import Path

from normfree.train.metrics import MetricsFile, read_metrics


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
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"step": 8, "lo')
    metrics = MetricsFile(path, after=4)
    metrics.write(step=5)
    metrics.sync()
    metrics.close()
    assert path.read_text() == '{"step": 2}\n{"step": 4}\n{"step": 5}\n'


def test_a_new_run_starts_an_empty_file(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""
