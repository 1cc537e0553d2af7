"""What happens between steps, and where a run's files go."""

from __future__ import annotations

from pathlib import Path

from normfree.schema import Field
from normfree.train.flags import component


@component
class Loop:
    """How often a run reports, evaluates and saves."""

    eval_every: int = Field(default=1, gt=0)
    """Epochs between evaluations; the last epoch is always evaluated."""
    checkpoint_every: int = Field(default=1000, gt=0)
    """Steps between checkpoints; there is one at the end of each epoch too."""
    keep_checkpoints: int = Field(default=2, gt=0)
    """How many of the newest checkpoints stay on disk."""
    log_every: int = Field(default=20, gt=0)
    """Steps between reports of loss and speed."""
    telemetry: bool = True
    """Measure clipping, gradients, weights and updates of every layer (`telemetry.bin`)."""
    report: bool = True
    """Write `report.html` at the end: curves, clipping, signal, confusion, the worst images."""


@component
class Place:
    """Where the files of a run go, and whether they are there already."""

    out: Path | None = None
    """The run's directory. None: the first free `runs/NAME-N`."""
    resume: bool = False
    """Go on where the run in that directory stopped; without --out, the newest `runs/NAME-N`."""
