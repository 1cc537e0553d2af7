"""What moves the weights once their gradient is complete: clip, the optimizer, the average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
        return self._record() if clipped is None else clipped

    @property
    def works_in_backward(self) -> bool:
        """Whether each parameter can be updated as soon as its gradient is complete."""
        return self.clip is None and isinstance(self.optimizer, AGCSGD)

    @contextmanager
    def in_backward(self, ema: EMA | None = None, step: int = 0) -> Iterator[ClipRecord]:
        """Do the same while one backward pass runs inside, in less memory.

        Args:
            ema: the average of the weights; None without one.
            step: number of the step, from zero.

        Yields:
            What was clipped; complete at the end.
        """
        assert isinstance(self.optimizer, AGCSGD)
        with self.optimizer.step_in_backward(ema, step):
            yield self._record()

    def _record(self) -> ClipRecord:
        return self.optimizer.clip_record if isinstance(self.optimizer, AGCSGD) else ClipRecord()
