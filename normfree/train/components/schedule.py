"""How the learning rate moves: warm-up, then cosine or steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from normfree.schema import Field
from normfree.train.flags import Flag, component

#: Step, from 0 → learning rate.
Schedule = Callable[[int], float]


@component
class WarmupEpochs:
    """A warm-up in epochs."""

    warmup_epochs: float = Field(ge=0)
    """Epochs in which the learning rate climbs from 0 to its peak."""

    def steps(self, steps_per_epoch: float, total_steps: int) -> float:
        """Steps of the warm-up, not rounded."""
        return self.warmup_epochs * steps_per_epoch


@component
class WarmupSteps:
    """A warm-up in steps."""

    warmup_steps: float = Field(ge=0)
    """Steps of the warm-up, instead of --warmup-epochs."""

    def steps(self, steps_per_epoch: float, total_steps: int) -> float:
        """Steps of the warm-up."""
        return self.warmup_steps


@component
class WarmupFraction:
    """A warm-up that is a part of the run, however long it is."""

    warmup_fraction: float = Field(ge=0, lt=1)
    """Part of the run in which the learning rate climbs, instead of --warmup-epochs."""

    def steps(self, steps_per_epoch: float, total_steps: int) -> float:
        """Steps of the warm-up, not rounded."""
        return self.warmup_fraction * total_steps


Warmup = WarmupEpochs | WarmupSteps | WarmupFraction


@component
class Cosine:
    """Half a cosine after the warm-up."""

    kind: Annotated[Literal["cosine"], Flag("schedule")] = "cosine"
    """What follows the warm-up. cosine: half a cosine, down to lr_floor; step: a factor of
    step_decay every step_epochs."""
    warmup: Warmup = WarmupEpochs(warmup_epochs=5.0)
    lr_floor: float = Field(default=0.0, ge=0)
    """Learning rate at the end of the cosine, and the least of the steps."""

    def build(
        self, *, peak: float, warmup_steps: float, total_steps: int, steps_per_epoch: float
    ) -> Schedule:
        """The learning rate of each step."""
        from normfree.optim import warmup_cosine

        return partial(
            warmup_cosine,
            peak=peak,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
            floor=self.lr_floor,
        )


@component
class StepDecay:
    """A constant factor every few epochs, after the warm-up."""

    kind: Annotated[Literal["step"], Flag("schedule")] = "step"
    """As for cosine."""
    warmup: Warmup = WarmupEpochs(warmup_epochs=5.0)
    lr_floor: float = Field(default=0.0, ge=0)
    """As for cosine."""
    decay: Annotated[float, Flag("step_decay")] = Field(default=0.97, gt=0, le=1)
    """Factor of the step schedule."""
    epochs: Annotated[float, Flag("step_epochs")] = Field(default=2.4, gt=0)
    """Epochs between two factors of the step schedule."""

    def build(
        self, *, peak: float, warmup_steps: float, total_steps: int, steps_per_epoch: float
    ) -> Schedule:
        """The learning rate of each step."""
        from normfree.optim import warmup_exponential

        return partial(
            warmup_exponential,
            peak=peak,
            warmup_steps=warmup_steps,
            decay_rate=self.decay,
            decay_steps=self.epochs * steps_per_epoch,
            floor=self.lr_floor,
        )
