"""What changes while a network trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from normfree.models import ImageClassifier
from normfree.optim import EMA, SAM
from normfree.train.accumulator import MetricAccumulator
from normfree.train.runtime import Runtime
from normfree.train.updater import Updater


@dataclass
class TrainState:
    """Weights, optimizer, averages and counts; with the recipe it fixes all that follows.

    Attributes:
        model: the network being trained.
        update: moves the weights and their average, once the gradient is complete.
        ema: the averaged weights; None without an average.
        sam: ascends the weights; None without sharpness-aware minimization. It has no state.
        epoch: sums over the current epoch.
        window: sums since the last report.
        step: steps done.
        best: best validation accuracy so far, of raw or averaged weights; -1 before the first
            evaluation.
    """

    model: ImageClassifier
    update: Updater
    ema: EMA | None
    sam: SAM | None
    epoch: MetricAccumulator
    window: MetricAccumulator
    step: int = 0
    best: float = -1.0

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The recipe's."""
        return self.update.optimizer

    @property
    def deployed(self) -> ImageClassifier:
        """The network that a checkpoint is read as: the averaged one, if there is one."""
        averaged: ImageClassifier = self.model if self.ema is None else self.ema.model  # type: ignore[assignment]
        return averaged

    def gather_metrics(self, runtime: Runtime) -> None:
        """Move what all ranks counted to the main one."""
        self.epoch.gather(runtime)
        self.window.gather(runtime)

    def drop_metrics(self) -> None:
        """Forget what was counted, but for how much it was: the main rank goes on with the sums."""
        self.epoch.drop()
        self.window.drop()

    def state_dict(self) -> dict[str, Any]:
        """Everything, for a checkpoint."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "step": self.step,
            "best": self.best,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same configuration."""
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        self.step = saved["step"]
        self.best = saved["best"]

    def _parts(self) -> dict[str, Any]:
        names = ("model", "optimizer", "ema", "epoch", "window")
        parts = {name: getattr(self, name) for name in names}
        return {name: part for name, part in parts.items() if part is not None}
