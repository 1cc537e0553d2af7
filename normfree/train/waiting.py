"""How long training waits for images, and what to do about it."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

_SHARE = 0.05  # of the time; below it, faster data would not be noticed
_WORSE = 1.5  # times the share that was said before
_LEAST = 1.0  # seconds between reports, below which the share says nothing


class DataWait:
    """Measures the time that the training loop waits for micro-batches.

    Args:
        workers: number of reading processes.

    >>> wait = DataWait(workers=0)
    >>> list(wait.measured(number for number in range(3)))
    [0, 1, 2]
    >>> 0 < wait.lap() < 1
    True
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._seconds = 0.0
        self._said = 0.0

    def measured(self, micro_batches: Generator[T, None, None]) -> Generator[T, None, None]:
        """The same micro-batches. The wait for the first does not count: the workers start."""
        began = None
        try:
            while True:
                try:
                    item = next(micro_batches)
                except StopIteration:
                    return
                if began is not None:
                    self._seconds += time.perf_counter() - began
                yield item
                del item
                began = time.perf_counter()
        finally:
            micro_batches.close()

    def lap(self) -> float:
        """Seconds of waiting since the last lap."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def advice(self, waited: float, seconds: float, images: int) -> str | None:
        """What to say after a report: once in a run, and again if it gets half as bad again.

        Args:
            waited: seconds of waiting.
            seconds: between the reports.
            images: trained on between the reports.

        >>> wait = DataWait(workers=2)
        >>> wait.advice(waited=0.3, seconds=10, images=1000)  # 3 % of the time
        >>> print(wait.advice(waited=5, seconds=10, images=1000))
        waiting for images 50 % of the time: 100 images/s are trained on; without waiting, 200 would
        be. Raise --workers (2 now, of ... cores), keep decoded images by --cache ram or --cache
        disk, or resize them once by `normfree pack`
        >>> wait.advice(waited=6, seconds=10, images=1000)  # not much worse
        """
        share = waited / seconds
        if seconds < _LEAST or share <= max(_SHARE, _WORSE * self._said):
            return None
        self._said = share
        rate = images / seconds
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return (
            f"waiting for images {100 * share:.0f} % of the time: {rate:.0f} images/s are trained "
            f"on; without waiting, {rate / max(1 - share, 1e-3):.0f} would be. Raise --workers "
            f"({self.workers} now, of {cores} cores), keep decoded images by --cache ram or "
            "--cache disk, or resize them once by `normfree pack`"
        )
