"""What changes while a network trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from normfree.models import ImageClassifier
from normfree.optim import EMA, SAM
from normfree.train.accumulator import MetricAccumulator
from normfree.train.optimizer import new_optimizer
from normfree.train.resolve import Resolved


@dataclass
class TrainState:
    """Weights, optimizer, averages and counts; with the recipe it fixes all that follows.

    Attributes:
        model: the network being trained.
        forward: the same network, compiled if the recipe says so.
        optimizer: the recipe's.
        ema: the averaged weights.
        sam: ascends the weights; None without sharpness-aware minimization. It has no state.
        epoch: sums over the current epoch.
        window: sums since the last report.
        step: steps done.
        best: best accuracy of the averaged weights so far; -1 before the first evaluation.
    """

    model: ImageClassifier
    forward: Callable[..., Tensor]
    optimizer: torch.optim.Optimizer
    ema: EMA
    sam: SAM | None
    epoch: MetricAccumulator
    window: MetricAccumulator
    step: int = 0
    best: float = -1.0

    def state_dict(self) -> dict[str, Any]:
        """Everything, for a checkpoint."""
        return {
            **{name: getattr(self, name).state_dict() for name in _PARTS},
            "step": self.step,
            "best": self.best,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same configuration."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(saved[name])
        self.step = saved["step"]
        self.best = saved["best"]


_PARTS = ("model", "optimizer", "ema", "epoch", "window")


def build_state(resolved: Resolved, model: ImageClassifier) -> TrainState:
    """The state before the first step.

    Args:
        resolved: the configuration.
        model: with its initial weights, see :func:`normfree.train.init.new_model`.
    """
    recipe = resolved.recipe
    model = model.to(resolved.device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.freeze(recipe.freeze)
    return TrainState(
        model=model,
        forward=torch.compile(model) if recipe.compile else model,
        optimizer=new_optimizer(model, resolved),
        ema=EMA(model, decay=recipe.ema_decay),
        sam=SAM(model.parameters(), rho=recipe.sam_rho) if recipe.sam_rho else None,
        epoch=MetricAccumulator(resolved.device),
        window=MetricAccumulator(resolved.device),
    )
