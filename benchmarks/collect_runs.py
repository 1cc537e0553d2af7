"""Collect the results of finished runs of a recipe in a dated result file.

    python benchmarks/collect_runs.py benchmarks/results/DATE_train_digits.json runs/digits-1 ...

Runs differ only in their seed. ``seconds`` is the training time without evaluation.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import yaml

from normfree.analysis.environment import environment
from normfree.report.metrics import read_metrics


def outcome(run: Path) -> dict[str, float | int | str]:
    """The results of a run's last epoch, and its training time."""
    recipe = yaml.safe_load((run / "config.yaml").read_text())["recipe"]
    epochs = [line for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "epoch"]
    return {
        "recipe": recipe["name"],
        "seed": recipe["seed"],
        "epochs": len(epochs),
        "top1": epochs[-1]["val_top1"],
        "top1_ema": epochs[-1]["val_top1_ema"],
        "seconds": round(sum(line["seconds"] for line in epochs), 1),
    }


def main() -> None:
    """Read the runs and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    parser.add_argument("runs", type=Path, nargs="+", help="directories of finished runs")
    args = parser.parse_args()
    runs = [outcome(run) for run in args.runs]
    top1 = [float(run["top1_ema"]) for run in runs]
    result = {
        "benchmark": "train",
        **environment(),
        "n": len(runs),
        "top1_ema": {"mean": statistics.mean(top1), "low": min(top1), "high": max(top1)},
        "runs": runs,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
