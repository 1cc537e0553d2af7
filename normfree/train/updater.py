"""What moves the weights once their gradient is complete: clip, the optimizer, the average."""

from __future__ import annotations

from typing import NamedTuple

import torch

from normfree.optim import AGCSGD, EMA
from normfree.optim.clip_record import ClipRecord
from normfree.optim.clipping import Clipping


class Updater(NamedTuple):
    """What moves the weights once their gradient is complete.

    Attributes:
        optimizer: the recipe's.
        clip: in front of it; None where it clips as it goes, or nothing does.
    """

    optimizer: torch.optim.Optimizer
    clip: Clipping | None

    def __call__(self, ema: EMA | None = None, step: int = 0) -> ClipRecord:
        """Clip the gradients, move the weights and average them; returns what was clipped.

        Args:
            ema: the average of the weights; None without one.
            step: number of the step, from zero.
        """
        clipped = None if self.clip is None else self.clip.clip_(self.optimizer.param_groups)
        if ema is not None and isinstance(self.optimizer, AGCSGD):
            self.optimizer.step_and_average(ema, step)
        else:
            self.optimizer.step()
            if ema is not None:
                ema.update(step)
        if clipped is not None:
            return clipped
        return self.optimizer.clip_record if isinstance(self.optimizer, AGCSGD) else ClipRecord()
