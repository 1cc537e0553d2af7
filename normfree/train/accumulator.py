"""Sums over steps that stay on the device, so that counting never makes the host wait."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


class MetricAccumulator:
    """Mean loss, accuracy and clipped share over some steps.

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
            loss: mean over the batch.
            correct: examples of the batch that were classified correctly.
            images: examples of the batch.
            clipped: units whose gradient was clipped.
            units: units that could have been.
        """
        self.loss += loss
        self.correct += correct
        self.clipped += clipped
        self.steps += 1
        self.images += images
        self.units += units

    def read(self) -> dict[str, float]:
        """The means so far; here the host waits for the device."""
        return {
            "loss": float(self.loss) / max(self.steps, 1),
            "accuracy": int(self.correct) / max(self.images, 1),
            "clipped": int(self.clipped) / max(self.units, 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """The sums, for a checkpoint."""
        return {name: value for name, value in vars(self).items() if name != "device"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved sums."""
        for name, value in state.items():
            setattr(
                self, name, value.to(self.device, copy=True) if isinstance(value, Tensor) else value
            )
