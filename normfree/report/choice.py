"""Which weights a run keeps: those that did best on the validation images, averaged or not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from normfree.report.metrics import headline

Weights: TypeAlias = Literal["raw", "averaged"]
RAW: Weights = "raw"
AVERAGED: Weights = "averaged"


class Choice(NamedTuple):
    """The better weights of an epoch.

    Attributes:
        weights: ``averaged`` or ``raw``; of equal ones the averaged.
        score: their accuracy, or mean average precision, on the validation images.
        other: that of the others; None without an average.
    """

    weights: Weights
    score: float
    other: float | None


def choose(line: Mapping[str, Any]) -> Choice | None:
    """The better weights of an ``epoch`` line; None where it was not evaluated.

    >>> choose({"kind": "epoch", "val_top1": 0.9, "val_top1_ema": 0.8})
    Choice(weights='raw', score=0.9, other=0.8)
    >>> choose({"kind": "epoch", "val_top1": 0.9, "val_top1_ema": 0.9}).weights
    'averaged'
    >>> choose({"kind": "epoch", "val_map": 0.5})
    Choice(weights='raw', score=0.5, other=None)
    """
    metric = headline(line)
    if metric is None:
        return None
    raw = _score(line[f"val_{metric}"])
    if f"val_{metric}_ema" not in line:
        return Choice(RAW, raw, None)
    averaged = _score(line[f"val_{metric}_ema"])
    if averaged >= raw:
        return Choice(AVERAGED, averaged, raw)
    return Choice(RAW, raw, averaged)


def _score(value: object) -> float:
    """A number to compare; a mean average precision without any label is the lowest."""
    known = isinstance(value, int | float) and not math.isnan(value)
    return float(value) if known else 0.0  # type: ignore[arg-type]


def kept(lines: Iterable[Mapping[str, Any]]) -> tuple[int, Choice] | None:
    """The epoch and the weights that are in ``model.safetensors``; None where nobody can say.

    Runs of older versions, whose lines do not say which weights are ``better``, kept the averaged
    ones of another epoch, maybe.

    >>> line = {"kind": "epoch", "epoch": 1, "val_top1": 0.5, "val_top1_ema": 0.2, "better": "raw"}
    >>> kept([line, {**line, "epoch": 2}, {**line, "epoch": 3, "val_top1": 0.4}])
    (2, Choice(weights='raw', score=0.5, other=0.2))
    """
    best: tuple[int, Choice] | None = None
    for line in lines:
        found = choose(line) if line.get("kind") == "epoch" else None
        if found is None:
            continue
        if found.other is None or line.get("better") != found.weights:
            return None
        if best is None or found.score >= best[1].score:
            best = (line["epoch"], found)
    return best
