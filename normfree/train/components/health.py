"""What a run does when something goes wrong while it trains."""

from __future__ import annotations

from typing import Literal

from normfree.schema import Field
from normfree.train.flags import component


@component
class Health:
    """What is watched, and what happens then."""

    on_nonfinite: Literal["stop", "skip", "rewind"] = "stop"
    """A loss or gradient that is not finite. stop: the run ends; skip: the step is not taken, for
    which the host waits for the device at each step; rewind: back to the last checkpoint, and on
    without that batch."""
    on_loss_spike: Literal["ignore", "warn", "rewind"] = "warn"
    """A loss far above those before. warn: say so; rewind: back to the last checkpoint, and on
    without that batch."""
    spike_deviations: float = Field(default=20.0, gt=0, le=1e6)
    """How far above: so many median absolute deviations above the median of the last 100 steps."""
    max_skipped: int = Field(default=20, ge=0)
    """Batches that a run may leave out before it ends after all."""
    max_skipped_in_a_row: int = Field(default=5, ge=0)
    """Batches that it may leave out one after the other."""
    watchdog_seconds: float = Field(default=300.0, ge=0, le=86400 * 7)
    """After so many seconds without progress, report what every thread of every process is doing;
    0: never."""
    on_hang: Literal["report", "abort"] = "report"
    """report: go on waiting after it; abort: end all processes, with exit code 75."""

    @property
    def rewinds(self) -> bool:
        """Whether anything makes the run go back."""
        return "rewind" in (self.on_nonfinite, self.on_loss_spike)
