"""Let all ranks stop at the same step when one of them cannot read its images."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from normfree.data import BadImages, TooManyBadImagesError, WorkerError
from normfree.errors import BadImageError, EndedElsewhere
from normfree.train.runtime import Runtime

T = TypeVar("T")

#: Errors of reading after which the steps before can be saved.
SAVABLE = (BadImageError, TooManyBadImagesError, WorkerError)

_FAILED, _STOPPED, _NEWS, _FINE = range(4)  # what a rank says; the smallest decides


class StoppedReading(EndedElsewhere):
    """Another rank cannot read its images; all ranks are at the same step, and can save it."""


class SharedReading:
    """What ranks tell each other of the images they read.

    A rank that cannot read would leave the others in the middle of a step. So each rank reads all
    its micro-batches of a step before it begins, and tells the others, host to host; the device
    goes on with the step before meanwhile. Unreadable images that are skipped are exchanged, too:
    the main rank notes those of all ranks as they come, and the bound on them is for all.

    Args:
        runtime: the ranks; alone, micro-batches pass as they come.
        bad_images: the log of this rank.

    Example:
        >>> reading = SharedReading(Runtime(device="cpu"), BadImages())
        >>> list(reading.steps((number for number in range(4)), 2))
        [0, 1, 2, 3]
    """

    def __init__(self, runtime: Runtime, bad_images: BadImages) -> None:
        self.runtime = runtime
        self.bad_images = bad_images
        self._told = 0  # how many entries of the log the others know
        self._error: Exception | None = None

    def steps(
        self, micro_batches: Generator[T, None, None], count: int
    ) -> Generator[T, None, None]:
        """The same micro-batches; those of a step once all ranks have read theirs.

        Args:
            micro_batches: closed with this iterator.
            count: of a step.

        Raises:
            StoppedReading: another rank cannot read.
        """
        if self.runtime.world == 1:
            return micro_batches
        return self._steps(micro_batches, count)

    def _steps(
        self, micro_batches: Generator[T, None, None], count: int
    ) -> Generator[T, None, None]:
        caught = self.caught(micro_batches)
        try:
            while (step := deque(islice(caught, count))) or self._error is not None:
                self.settle()
                while step:
                    yield step.popleft()
        finally:
            micro_batches.close()

    def caught(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches up to an error, which waits for :meth:`settle` on all ranks."""
        if self.runtime.world == 1:
            yield from batches
            return
        try:
            yield from batches
        except Exception as error:
            self._error = error

    def settle(self) -> None:
        """Tell the others; all ranks raise if one of them cannot read.

        Raises:
            StoppedReading: another rank cannot read.
        """
        if self.runtime.world == 1:
            return
        least = self.runtime.least(self._said())
        if least < _FINE:
            self._share()
        error, self._error = self._error, None
        if error is not None:
            raise error
        if least == _STOPPED:
            raise StoppedReading
        if least == _FAILED:
            raise EndedElsewhere

    def _said(self) -> int:
        if self._error is not None:
            return _STOPPED if isinstance(self._error, SAVABLE) else _FAILED
        return _NEWS if self.bad_images.count > self._told else _FINE

    def _share(self) -> None:
        """Add what the others could not read."""
        news = list(self.bad_images.reasons.items())[self._told :]
        for rank, found in enumerate(self.runtime.gathered(news)):
            for name, reason in found if rank != self.runtime.rank else ():
                try:
                    self.bad_images.add(BadImageError(name, reason))
                except TooManyBadImagesError as error:  # by now on all ranks
                    self._error = self._error or error
        self._told = self.bad_images.count
