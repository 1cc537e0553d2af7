"""The telemetry of a run: built from its recipe, written beside its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normfree.analysis.telemetry import Telemetry
from normfree.analysis.telemetry_file import TelemetryFile
from normfree.train.engine import Engine
from normfree.train.metrics import NoMetricsFile
from normfree.train.resolve import Resolved
from normfree.train.state import TrainState

_READINGS = 1000  # of a run, at most: a report is narrower


def build_telemetry(resolved: Resolved, state: TrainState, engine: Engine) -> Telemetry | None:
    """What measures the updates; None where the recipe wants none, or another rank does it all."""
    loop = resolved.recipe.loop
    if not loop.telemetry or not (engine.splits or engine.runtime.main):
        return None
    lines = -(-resolved.total_steps // (loop.log_every * _READINGS))  # of the metrics, per reading
    return Telemetry(state.optimizer, every=loop.log_every * max(lines, 1), counts=engine.counts)


class TelemetrySink(NoMetricsFile):
    """Writes a reading with the ``train`` line of the same step.

    Args:
        telemetry: what the steps are measured by.
        path: of the file; written on the main rank.
        engine: gathers what ranks know of their rows.
        after: step that the run goes on from.
    """

    def __init__(self, telemetry: Telemetry, path: Path, engine: Engine, after: int = 0) -> None:
        super().__init__()
        self._telemetry = telemetry
        self._gather = engine.runtime.gathered if engine.splits else None
        self._readings = (
            TelemetryFile(path, telemetry.layers, telemetry.thresholds, after)
            if engine.runtime.main
            else None
        )

    def write(self, **fields: Any) -> None:
        """Write a reading, if one is due."""
        if fields["kind"] == "train" and self._telemetry.due(fields["step"] - 1):
            reading = self._telemetry.read(self._gather)
            if self._readings is not None:
                self._readings.write(fields["step"], reading)

    def close(self) -> None:
        """Close the file."""
        if self._readings is not None:
            self._readings.close()
