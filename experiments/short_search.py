"""The tables of the search behind the recipes for short runs, from its stored lines.

    python -m experiments.short_search

A run has one line in ``docs/experiments/results/short_search.jsonl``: its settings, what was
changed outside of them while Muon was no part of the package yet (``changes``), the accuracy on the
last 6,000 of the training images of Fashion-MNIST, which were not trained on, and for some runs
what was seen in their first steps.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from experiments.study import DOCS, put

Line = dict[str, Any]


def accuracies(lines: list[Line]) -> str:
    """A row for each run, in the order in which they were made."""
    rows = [
        "| | epochs | images | top-1, % | averaged weights, % | processor s |",
        "|---" * 6 + "|",
    ]
    for line in lines:
        reached = (
            ["diverged", ""]
            if line["top1"] is None
            else [f"{100 * line['top1']:.1f}", f"{100 * line['top1_ema']:.1f}"]
        )
        seconds = "" if line["top1"] is None else f"{line['processor_seconds']:.0f}"
        cells = [line["variant"], str(line["epochs"]), line["images"], *reached, seconds]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def first_steps(lines: list[Line]) -> str:
    """What was seen in the steps of the runs that were looked at."""
    head = (
        *("", "step", "loss", "σ of logits", "mean SkipInit gain"),
        *("moved: convolutions", "classifier", "clipped: biases", "SkipInit gains"),
    )
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for line in lines:
        for seen in line.get("steps", ()):
            if seen["step"] not in (9, 19, 49, 199):
                continue
            gains = [abs(gain) for gain in seen["skip"]]
            moved = [f"{seen['ratio'][key][1]:.2g}" for key in ("conv weight", "classifier")]
            clipped = [
                f"{seen['clip'][key][0]:.0%}" if key in seen["clip"] else ""
                for key in ("bias", "skip_gain")
            ]
            cells = [
                line["variant"],
                str(seen["step"] + 1),
                f"{seen['loss']:.2f}",
                f"{seen['logit_std']:.2f}",
                f"{statistics.mean(gains):.4f}" if gains else "",
                *moved,
                *clipped,
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    text = (DOCS / "results" / "short_search.jsonl").read_text()
    stored = [json.loads(line) for line in text.splitlines()]
    put(DOCS / "short_runs.md", "short_search", accuracies(stored))
    put(DOCS / "short_runs.md", "short_first_steps", first_steps(stored))
