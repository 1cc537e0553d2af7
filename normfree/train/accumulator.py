"""Sums over steps that stay on the device, so that counting never makes the host wait."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from normfree.train.runtime import Runtime


class MetricAccumulator:
    """Mean loss, accuracy and clipped share over some steps.

    Each rank adds its share of a step. Shares are added up when somebody reads.

    Args:
        device: where the sums live.

    Example:
        >>> accumulator = MetricAccumulator()
        >>> loss, correct, clipped = torch.tensor(0.5), torch.tensor(3), torch.tensor(1)
        >>> accumulator.add(loss, correct, images=4, clipped=clipped, units=8)
        >>> accumulator.read()
        {'loss': 0.5, 'accuracy': 0.75, 'clipped': 0.125}
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Start again from nothing."""
        self.loss = torch.zeros((), device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.clipped = torch.zeros((), dtype=torch.int64, device=self.device)
        self.steps = self.images = self.units = 0

    def add(
        self,
        loss: Float[Tensor, ""],
        correct: Int[Tensor, ""],
        *,
        images: int,
        clipped: Int[Tensor, ""],
        units: int,
    ) -> None:
        """Count one step.

        Args:
            loss: mean over the batch, or this rank's share of it; likewise what follows.
            correct: examples of the batch that were classified correctly.
            images: examples of the batch, on all ranks; 0 if the step was not taken.
            clipped: units whose gradient was clipped.
            units: units that could have been.
        """
        self.loss += loss
        self.correct += correct
        self.clipped += clipped
        self.steps += bool(images)  # a step that was not taken has no loss
        self.images += images
        self.units += units

    def read(self, runtime: Runtime | None = None) -> dict[str, float]:
        """The means so far, over all ranks; here the host waits for the device.

        Where no step was taken, loss and accuracy are not a number.
        """
        loss, correct, clipped, units = self._sums(runtime)
        return {
            "loss": loss / self.steps if self.steps else math.nan,
            "accuracy": correct / self.images if self.images else math.nan,
            "clipped": clipped / max(units, 1),
        }

    def gather(self, runtime: Runtime) -> None:
        """Move the shares of all ranks to the main one, which saves them."""
        if runtime.world == 1:
            return
        loss, correct, clipped, units = self._sums(runtime)
        self.drop()
        if runtime.main:
            self.loss.fill_(loss)
            self.correct.fill_(int(correct))
            self.clipped.fill_(int(clipped))
            self.units = int(units)

    def drop(self) -> None:
        """Leave the sums to the main rank, which counts them among its own."""
        for sums in (self.loss, self.correct, self.clipped):
            sums.zero_()
        self.units = 0

    def _sums(self, runtime: Runtime | None) -> list[float]:
        """Loss, correct, clipped and units of all ranks."""
        sums = [float(self.loss), float(self.correct), float(self.clipped), float(self.units)]
        if runtime is None or runtime.world == 1:
            return sums
        return runtime.summed(torch.tensor(sums, dtype=torch.float64)).tolist()

    def state_dict(self) -> dict[str, Any]:
        """The sums, for a checkpoint; of several ranks, once they are gathered."""
        return {name: value for name, value in vars(self).items() if name != "device"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved sums."""
        for name, value in state.items():
            setattr(
                self, name, value.to(self.device, copy=True) if isinstance(value, Tensor) else value
            )
