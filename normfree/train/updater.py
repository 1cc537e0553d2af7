"""What moves the weights once their gradient is complete: clip, then the optimizer."""

from __future__ import annotations

from typing import NamedTuple

import torch

from normfree.optim import AGCSGD
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

    def __call__(self) -> ClipRecord:
        """Clip the gradients and move the weights; returns what was clipped."""
        clipped = None if self.clip is None else self.clip.clip_(self.optimizer.param_groups)
        self.optimizer.step()
        if clipped is not None:
            return clipped
        return self.optimizer.clip_record if isinstance(self.optimizer, AGCSGD) else ClipRecord()
