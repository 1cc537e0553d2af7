"""What is wrong with a run, by what it has measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from normfree.analysis.doctor import Finding
from normfree.report.files import RunFiles, read_run

_FEW = 5  # lines, below which nothing can be said


def examine_run(path: Path) -> list[Finding]:
    """The findings of a run, finished or not; empty if it is healthy.

    Raises:
        UserError: there is no run, or its metrics are damaged.
    """
    run = read_run(path)
    return [finding for check in RUN_CHECKS for finding in check(run)]


def diverged(run: RunFiles) -> Iterator[Finding]:
    """The loss is not finite, or ends far above where it began."""
    losses = [line.get("loss") for line in run.of("train")]
    known = [loss for loss in losses if isinstance(loss, int | float)]
    if len(known) < len(losses):
        yield Finding(
            "diverged",
            "the loss is not finite",
            "lower --lr or --clipping, and go on from a checkpoint before it",
        )
    elif len(known) >= _FEW and median(known[-3:]) > 1.5 * known[0]:
        yield Finding(
            "diverged",
            f"the loss rose from {known[0]:.3g} to {median(known[-3:]):.3g}",
            "lower --lr or --clipping",
        )


def clipping_too_small(run: RunFiles) -> Iterator[Finding]:
    """Nearly every unit is clipped, or none ever."""
    shares = run.column("train", "clipped")[1]
    if len(shares) < _FEW or run.telemetry is None or not any(run.telemetry.thresholds):
        return
    middle = median(shares)
    if middle > 0.9:
        yield Finding(
            "clipping_threshold",
            f"{middle:.0%} of all units are clipped: λ is far too small, and sets the step's size",
            "raise --clipping; the paper's larger λ go with smaller batches",
        )
    elif max(shares) == 0:
        yield Finding(
            "clipping_threshold",
            "no unit was ever clipped: λ is far too large to protect from anything",
            "lower --clipping, or do without it",
        )


def dead_layer(run: RunFiles) -> Iterator[Finding]:
    """A layer has had no gradient since the first half of the run."""
    history = run.telemetry
    if history is None or len(history.steps) < 2:
        return
    late = history.column("gradient")[len(history.steps) // 2 :]
    dead = [name for name, one in zip(history.layers, late.T, strict=True) if not np.any(one)]
    if dead:
        yield Finding(
            "dead_layer",
            f"the gradient of {', '.join(dead[:3])} has been zero since the middle of the run",
            "nothing reaches it, or nothing leaves it: normfree doctor MODEL looks at the network",
        )


def starved(run: RunFiles) -> Iterator[Finding]:
    """Training waits for images."""
    waits = run.column("train", "data_wait")[1]
    if len(waits) >= _FEW and median(waits) > 0.3:
        yield Finding(
            "starved",
            f"{median(waits):.0%} of the time was spent waiting for images",
            "raise --workers, --cache the images, or pack them resized (normfree pack)",
        )


def not_learning(run: RunFiles) -> Iterator[Finding]:
    """The accuracy on validation images is that of guessing."""
    found = run.evaluation
    accuracies = run.column("epoch", "val_top1")[1]
    if found is None or not accuracies or len(found.classes) < 2:
        return
    chance = 1 / len(found.classes)
    if max(accuracies + run.column("epoch", "val_top1_ema")[1]) < 1.3 * chance:
        yield Finding(
            "not_learning",
            f"the best accuracy is {max(accuracies):.1%}, and guessing gives {chance:.1%}",
            "look at the labels (normfree inspect-data), then at --lr and the length of the run",
        )


def late_average(run: RunFiles) -> Iterator[Finding]:
    """The averaged weights lag far behind the raw ones at the end."""
    raw, averaged = (run.column("epoch", name)[1] for name in ("val_top1", "val_top1_ema"))
    if raw and averaged and averaged[-1] < raw[-1] - 0.1:
        yield Finding(
            "late_average",
            f"averaged weights end at {averaged[-1]:.1%}, raw ones at {raw[-1]:.1%}",
            "the average reaches back further than the run is long: lower --ema-decay",
        )


#: Each looks at a run, finished or not.
RUN_CHECKS: tuple[Callable[[RunFiles], Iterator[Finding]], ...] = (
    diverged,
    clipping_too_small,
    dead_layer,
    starved,
    not_learning,
    late_average,
)
