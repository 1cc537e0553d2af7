"""Notice a loss that is far above those before it."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import NamedTuple

_WINDOW = 100  # steps that a loss is compared with
_FEWEST = 20  # of them, below which nothing is known yet
_FLOOR = 1e-3  # of the median: losses that hardly vary have no spikes


class Spike(NamedTuple):
    """A loss that is far above those before.

    Attributes:
        step: whose it is.
        loss: of its batch.
        usual: median of the losses before.
    """

    step: int
    loss: float
    usual: float

    def __str__(self) -> str:
        return f"the loss of step {self.step} is {self.loss:.4g}, and was about {self.usual:.4g}"


class SpikeDetector:
    r"""Compares each loss with the median of those before, by their median absolute deviation.

    .. math:: \ell_t > m + k \cdot \max(\mathrm{med}_i |\ell_i - m|,\ 10^{-3}\,|m|), \qquad
        m = \mathrm{med}_i\, \ell_i, \quad t - 100 \le i < t

    Neither is moved by a few spikes. While a spike lasts, it is reported once.

    Args:
        deviations: :math:`k`.

    Example:
        >>> detector = SpikeDetector(20)
        >>> losses = [2 + 0.01 * (step % 3) for step in range(50)]
        >>> [detector.see(step, loss) for step, loss in enumerate(losses)] == [None] * 50
        True
        >>> print(detector.see(50, 9.0))
        the loss of step 50 is 9, and was about 2.01
    """

    def __init__(self, deviations: float) -> None:
        self.deviations = deviations
        self._seen: deque[tuple[int, float]] = deque(maxlen=_WINDOW)
        self._lasts = False

    def see(self, step: int, loss: float) -> Spike | None:
        """Look at the next loss; a spike, if one begins."""
        if not math.isfinite(loss):
            return None
        before = [value for _, value in self._seen]
        self._seen.append((step, loss))
        if len(before) < _FEWEST:
            return None
        usual = median(before)
        deviation = max(median(abs(value - usual) for value in before), _FLOOR * abs(usual))
        began = not self._lasts
        self._lasts = loss > usual + self.deviations * deviation
        return Spike(step, loss, usual) if self._lasts and began else None

    def go_back(self, step: int) -> None:
        """Forget the losses from a step on."""
        kept = [(number, loss) for number, loss in self._seen if number < step]
        self._seen = deque(kept, maxlen=_WINDOW)
        self._lasts = False
