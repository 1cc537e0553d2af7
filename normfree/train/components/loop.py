"""What happens between steps, and where a run's files go."""

from __future__ import annotations

from pathlib import Path

from normfree.schema import Field
from normfree.train.flags import component
from normfree.url_secrets import check_no_secret


@component
class Loop:
    """How often a run reports, evaluates and saves."""

    eval_every: int = Field(default=1, gt=0)
    """Epochs between evaluations; the last epoch is always evaluated."""
    checkpoint_every: int = Field(default=1000, gt=0)
    """Steps between checkpoints; there is one at the end of an epoch too."""
    checkpoint_epochs: int = Field(default=1, gt=0)
    """Epochs between checkpoints; the last step always has one."""
    checkpoint_minutes: float | None = Field(default=None, gt=0)
    """Minutes after which there is a checkpoint, if steps and epochs asked for none. None: no such
    limit."""
    keep_checkpoints: int = Field(default=2, gt=0)
    """How many of the newest checkpoints stay."""
    keep_best: int = Field(default=0, ge=0)
    """How many checkpoints with the best validation accuracy stay, besides the newest."""
    keep_epochs: int | None = Field(default=None, gt=0)
    """The checkpoint at the end of every so many epochs stays for good. None: of no epoch."""
    log_every: int = Field(default=20, gt=0)
    """Steps between reports of loss and speed."""
    telemetry: bool = True
    """Measure clipping, gradients, weights and updates of every layer (`telemetry.bin`)."""
    report: bool = True
    """Write `report.html` at the end: curves, clipping, signal, confusion, the worst images."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard, too."""
    wandb: bool = False
    """Send the metrics to Weights & Biases, too."""


@component
class Place:
    """Where the files of a run go, and whether they are there already."""

    out: Path | None = None
    """The run's directory. None: the first free `runs/NAME-N`."""
    checkpoint_dir: str | None = Field(default=None, min_length=1)
    """Where checkpoints go: a directory, or a URL that fsspec knows, such as s3://bucket/runs/7.
    None: `checkpoints` in the run's directory."""
    resume: bool = False
    """Go on where the run in that directory stopped; without --out, the newest `runs/NAME-N`."""
    extend_to: int | None = Field(default=None, gt=0)
    """With --resume: the new length of the run, which may be finished; in epochs, or in steps where
    the run counts them. Not with a cosine, whose rates depend on the length."""

    def __post_init__(self) -> None:
        """Refuse a secret, which would be saved."""
        if self.checkpoint_dir is not None:
            check_no_secret(self.checkpoint_dir)
