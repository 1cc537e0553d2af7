"""How long a run is."""

from __future__ import annotations

import math

from normfree.errors import UserError
from normfree.schema import Field
from normfree.train.flags import component


@component
class Epochs:
    """A number of passes over as many images as there are."""

    epochs: int = Field(gt=0, le=10**9)
    """Passes over as many training images as there are."""

    def total_steps(self, images: int, batch: int) -> int:
        """⌊epochs · N / B⌋, and at least one.

        Raises:
            UserError: that is not one batch.
        """
        steps = self.epochs * images // batch
        if steps == 0:
            raise UserError(
                f"{self.epochs} epochs of {images} images are not one batch of {batch}; "
                "lower --batch-size"
            )
        return steps

    def total_epochs(self, images: int, batch: int) -> int:
        """Passes, the last one perhaps not a whole one."""
        return self.epochs


@component
class Steps:
    """A number of optimizer steps."""

    steps: int = Field(gt=0, le=10**12)
    """Optimizer steps, instead of --epochs."""

    def total_steps(self, images: int, batch: int) -> int:
        """As many as it says."""
        return self.steps

    def total_epochs(self, images: int, batch: int) -> int:
        """Passes, the last one perhaps not a whole one."""
        return math.ceil(self.steps * batch / images)
