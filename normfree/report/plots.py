"""The charts of a report: one function for each section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from normfree.analysis.reading import stage_of
from normfree.analysis.telemetry_file import History
from normfree.report.evaluation import Signal
from normfree.report.files import RunFiles
from normfree.report.svg import Axes, Series, heat_map, line_chart

_COLUMNS = 300  # of a heat map
_STAGES = 7  # lines of a chart

#: Title, unit, logarithmic or not, and lines (name, kind of line, field) of the curves.
CURVES = (
    (
        *("Loss", "loss (nats)", False),
        (
            ("training", "train", "loss"),
            ("validation", "epoch", "val_loss"),
            ("validation, averaged weights", "epoch", "val_loss_ema"),
        ),
    ),
    (
        *("Accuracy", "accuracy (share of images)", False),
        (
            ("training", "epoch", "train_accuracy"),
            ("validation", "epoch", "val_top1"),
            ("validation, averaged weights", "epoch", "val_top1_ema"),
            ("validation, mAP", "epoch", "val_map"),
            ("validation, mAP of averaged weights", "epoch", "val_map_ema"),
        ),
    ),
    (*("Learning rate", "learning rate", False), (("learning rate", "train", "lr"),)),
    (*("Clipped units", "share of all units", False), (("clipped", "train", "clipped"),)),
)

SPEED = (
    (*("Throughput", "images per second", False), (("images", "train", "images_per_second"),)),
    (*("Waiting for images", "share of time", False), (("waiting", "train", "data_wait"),)),
)


def curves(runs: Sequence[RunFiles], chosen: Sequence[Any] = CURVES) -> Iterator[str]:
    """Charts over epochs; with several runs, a line for each."""
    for title, unit, log, lines in chosen:
        series = []
        for run in runs:
            for name, kind, field in lines:
                x, y = run.column(kind, field)
                called = name if len(runs) == 1 else f"{run.name}: {name}"
                if y:
                    series.append(Series(name=called, x=x, y=y))
        yield line_chart(Axes(title, "epoch", unit, log), series)


def clipping(history: History) -> Iterator[str]:
    """The share of clipped units by layer and time, and what is clipped: ‖G‖/‖W‖ by stage."""
    shares = history.column("clipped")
    known = ~np.isnan(shares).all(axis=0) if len(shares) else np.zeros(len(history.layers), bool)
    stages = list(dict.fromkeys(map(stage_of, history.layers)))
    rows = [place for place in range(len(history.layers)) if known[place]]  # group by group
    rows.sort(key=lambda place: stages.index(stage_of(history.layers[place])))
    names = [stage_of(history.layers[place]) for place in rows]
    places = _thinned(len(history.steps))
    axes = Axes("Clipped units, by layer and time", "step", "layers, from input to output")
    image = shares[places][:, rows].T.astype(np.float64)
    yield heat_map(axes, image, names, history.steps[places].tolist(), "share of units clipped")
    axes = Axes(
        "Gradient over weight, median of units", "step", "‖G‖ / ‖W‖ before clipping", log=True
    )
    yield line_chart(axes, [*_by_stage(history, "ratio_p50"), *_thresholds(history)])
    axes = Axes("Update over weight", "step", "‖ΔW‖ / ‖W‖", log=True)
    yield line_chart(axes, list(_by_stage(history, "update", "weight")))
    axes = Axes("Norm of the gradient", "step", "‖G‖ before clipping", log=True)
    yield line_chart(axes, list(_by_stage(history, "gradient")))


def propagation(signal: Sequence[Signal]) -> Iterator[str]:
    """Signal propagation plots: what each residual block gives on."""
    x = list(range(1, len(signal) + 1))
    expected = [float("nan") if one.expected is None else one.expected for one in signal]
    charts = (
        ("Channel variance", "variance over images and space", "variance", True),
        ("Squared channel mean", "mean over channels", "mean_square", False),
        ("Variance of the residual branch", "variance, before α", "branch_variance", False),
    )
    for title, unit, field, compared in charts:
        series = [Series(name="measured", x=x, y=[getattr(one, field) for one in signal])]
        if compared:
            series.append(Series(name="analytic, at first", x=x, y=expected, dashed=True))
        if field == "branch_variance":
            series.append(Series(name="one, at first", x=x, y=[1.0] * len(x), dashed=True))
        yield line_chart(Axes(title, "residual block", unit, log=True), series)


def _by_stage(history: History, column: str, over: str | None = None) -> Iterator[Series]:
    """A line for each stage: the median over its weights."""
    values = history.column(column).astype(np.float64)
    if over is not None:
        values = values / np.maximum(history.column(over), 1e-3)
    stages: dict[str, list[int]] = {}
    for place, name in enumerate(history.layers):
        if name.endswith("weight"):
            stages.setdefault(stage_of(name), []).append(place)
    for stage, places in list(stages.items())[:_STAGES]:
        y = [
            float(np.median(row[np.isfinite(row)])) if np.isfinite(row).any() else float("nan")
            for row in values[:, places]
        ]
        yield Series(name=stage, x=history.steps.tolist(), y=y)


def _thresholds(history: History) -> Iterator[Series]:
    found = sorted({value for value in history.thresholds if value is not None})
    ends = [history.steps[0], history.steps[-1]] if len(history.steps) else []
    for value in found[:1]:
        yield Series(name=f"λ = {value:g}", x=ends, y=[value] * len(ends), dashed=True)


def _thinned(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, _COLUMNS)).astype(int)).tolist()
