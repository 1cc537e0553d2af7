"""When a checkpoint is due: after so many steps, epochs or minutes."""

from __future__ import annotations

import time
from collections.abc import Callable

from normfree.train.components import Loop


class Cadence:
    """Says when a checkpoint is due.

    Minutes are counted by a clock that nobody sets.

    Args:
        loop: how often.
        clock: seconds, from any moment.

    Example:
        >>> seconds = iter([0, 50, 61, 61]).__next__
        >>> cadence = Cadence(Loop(checkpoint_every=100, checkpoint_minutes=1), seconds)
        >>> cadence.overdue(), cadence.overdue()
        (False, True)
        >>> cadence.due(step=99), cadence.due(step=100), cadence.due(step=7, epoch=1)
        (False, True, True)
    """

    def __init__(self, loop: Loop, clock: Callable[[], float] = time.monotonic) -> None:
        self.loop = loop
        self._clock = clock
        self._last = clock()

    def overdue(self) -> bool:
        """Whether the last one is longer ago than it should be; said once. Of ranks, ask one."""
        minutes = self.loop.checkpoint_minutes
        if minutes is None or self._clock() - self._last < 60 * minutes:
            return False
        self.saved()
        return True

    def due(self, step: int, epoch: int | None = None, *, last: bool = False) -> bool:
        """Whether steps or epochs ask for one.

        Args:
            step: steps done.
            epoch: that is over with this step; None within an epoch.
            last: whether the run is over.
        """
        if last or step % self.loop.checkpoint_every == 0:
            return True
        return epoch is not None and epoch % self.loop.checkpoint_epochs == 0

    def saved(self) -> None:
        """Start counting minutes again."""
        self._last = self._clock()
