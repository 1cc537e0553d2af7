"""How long a run is, in steps and epochs."""

from __future__ import annotations

from dataclasses import dataclass

from normfree.data import epochs


@dataclass(frozen=True, kw_only=True)
class Span:
    """The steps of a run, and where its epochs end.

    Args:
        images: N, of an epoch.
        batch_size: B, of a step.
        steps: of the run.

    >>> span = Span(images=10, batch_size=4, steps=6)
    >>> [span.epoch_ended(steps) for steps in range(7)], span.epochs
    ([None, None, 1, None, None, 2, 3], 3)
    """

    images: int
    batch_size: int
    steps: int

    @property
    def epochs(self) -> int:
        """Passes over the images, the last one perhaps not a whole one."""
        return self.epoch_of(self.steps - 1)

    @property
    def steps_per_epoch(self) -> float:
        """N / B, not rounded."""
        return self.images / self.batch_size

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that a step (from 0) belongs to."""
        return epochs.epoch_of(step, examples=self.images, batch_size=self.batch_size)

    def epoch_ended(self, steps: int) -> int | None:
        """The epoch that is over when just as many steps are done; None if none is."""
        return epochs.epoch_ended(
            steps, examples=self.images, batch_size=self.batch_size, total_steps=self.steps
        )
