"""Plot the training curves of a run: loss, learning rate and accuracy."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from normfree.report.metrics import read_metrics

_LARGEST = 1e30  # of a value to draw: matplotlib's arithmetic overflows on larger ones
_POINTS = 10_000  # of a curve, which is narrower than 1,000 pixels


def plot_curves(metrics: Path, out: Path) -> str:
    """Plot the curves of a ``metrics.jsonl`` file.

    Args:
        metrics: the metrics file of a run.
        out: path of the image; its extension determines the format.

    Returns:
        A message with the path of the image, or with the package to install.

    Raises:
        UserError: a line of the file is damaged.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return "no plot of the curves: pip install 'normfree[report]' draws one next time"
    lines = read_metrics(metrics)
    steps = [line for line in lines if line["kind"] == "train"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, accuracy = figure.subplots(1, 3)
    _curve(loss, steps, "epoch", "loss", label="training (smoothed labels)", alpha=0.5)
    _curve(loss, epochs, "epoch", "val_loss", label="validation")
    _curve(loss, epochs, "epoch", "val_loss_ema", label="validation, averaged weights")
    _curve(rate, steps, "epoch", "lr", label="learning rate")
    _curve(accuracy, epochs, "epoch", "train_accuracy", label="training", alpha=0.5)
    _curve(accuracy, epochs, "epoch", "val_top1", label="validation")
    _curve(accuracy, epochs, "epoch", "val_top1_ema", label="validation, averaged weights")
    _curve(accuracy, epochs, "epoch", "val_map", label="validation, mAP")
    _curve(accuracy, epochs, "epoch", "val_map_ema", label="validation, mAP of averaged weights")
    for axes, title in ((loss, "loss"), (rate, "learning rate"), (accuracy, "accuracy")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of an axis without a range: it is drawn anyway
        figure.savefig(out, dpi=120)
    return f"curves: {out}"


def _curve(axes: Any, lines: list[dict[str, Any]], x: str, y: str, **style: Any) -> None:
    points = [(line.get(x), line.get(y)) for line in lines]
    points = [point for point in points if all(map(_can_be_drawn, point))]
    points = points[:: len(points) // _POINTS + 1]
    if points:
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 20 else "", **style)


def _can_be_drawn(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= _LARGEST
