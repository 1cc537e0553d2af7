"""Worker processes that prefetch results: in order, bounded in bytes, and never orphaned.

The workers start once. They read for training and for every evaluation; each *job* is a function
that is sent to a worker once, its large parts in shared memory, and then called by numbers. Each
worker has its own pipe. No lock is shared, so a worker that is killed at any point blocks no other
worker: its pipe closes, and a new worker reads its numbers again. If the main process is killed,
another pipe closes, and every worker exits at once.

Differs from: ``torch.utils.data.DataLoader``, which copies the data set to every worker of every
    loader, bounds prefetching in batches, not bytes, and takes new shared memory for each batch.
    Its workers survive a killed main process if a fork server started them, because the fork server
    is their parent. It reports a killed worker after five seconds, as a ``RuntimeError`` that does
    not name the signal, and cannot go on.
"""

from __future__ import annotations

import atexit
import pickle
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

from normfree.data.process import PATIENCE, Pending, Worker, WorkerError
from normfree.data.share import SharedObject, share
from normfree.errors import UserError

__all__ = ["Sized", "WorkerError", "Workers", "read_ahead"]

_MOST = 8  # results per worker, however small


class Sized(Protocol):
    """An object with a size in bytes."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        ...


T = TypeVar("T", bound=Sized)


def read_ahead(
    read: Callable[[int], T], numbers: Sequence[int], workers: int, prefetch_bytes: int
) -> Generator[T, None, None]:
    """``map(read, numbers)``, computed ahead of time by worker processes of its own.

    Args:
        read: see :meth:`Workers.map`.
        numbers: the arguments of the calls.
        workers: number of processes, at least 1.
        prefetch_bytes: see :meth:`Workers.map`.

    Raises:
        UserError: see :meth:`Workers.map`.
    """
    if len(numbers):
        with closing(Workers(min(workers, len(numbers)))) as pool:
            yield from pool.map(read, numbers, prefetch_bytes)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


class Workers:
    """Worker processes; each starts when there is work for it, and all stop by :meth:`close`.

    A worker that a signal kills is replaced once, and what it had not finished is read again. A
    second one, or one that exits by itself, is an error.

    Args:
        count: number of processes, at least 1.
        say: called with a message if a worker was replaced; warns by default.

    >>> with closing(Workers(2)) as workers:  # starts no process yet
    ...     list(workers.map(int, [], 0))
    []
    """

    def __init__(self, count: int, say: Callable[[str], None] = _warn) -> None:
        if count < 1:
            raise ValueError(f"{count} workers: there must be at least one")
        self.count, self.say = count, say
        self._workers: list[Worker] = []
        self._jobs: dict[int, _Job[Any]] = {}
        self._number = 0
        self._replaced = False
        self._closed = False

    def map(
        self, read: Callable[[int], T], numbers: Sequence[int], prefetch_bytes: int
    ) -> Generator[T, None, None]:
        """``map(read, numbers)``, computed ahead of time.

        At most ``prefetch_bytes // (nbytes of the largest result)`` results are in progress or
        waiting at any time, but at least one and at most eight per worker. Several iterators may be
        in use at the same time.

        Args:
            read: picklable; each worker receives it once. It gives the same result for a number
                whenever it is called.
            numbers: the arguments of the calls, all different.
            prefetch_bytes: bound on prefetched results; each worker may always hold one.

        Raises:
            UserError: ``read`` raised an exception, or cannot be pickled.
            WorkerError: a worker ended by itself, or a second one was killed.
        """
        if not len(numbers):
            return
        job: _Job[T] = self._begin(read)
        count, todo = min(self.count, len(numbers)), iter(numbers)
        try:
            for number in numbers:
                self._feed(job, todo, count, prefetch_bytes)
                while number not in job.ready:
                    self._receive()
                result = job.ready.pop(number)
                if isinstance(result, UserError):
                    raise result
                self._feed(job, todo, count, prefetch_bytes)  # while the caller uses the result
                yield result
                del result  # its memory is free for another one
        finally:
            self._end(job)

    def close(self) -> None:
        """Stop the workers and discard what they are reading."""
        atexit.unregister(self.close)
        self._closed = True
        for worker in self._workers:
            worker.connection.close()
        deadline = time.monotonic() + PATIENCE
        for worker in self._workers:
            worker.stop(deadline - time.monotonic())
        self._workers.clear()
        for job in list(self._jobs.values()):
            self._end(job)

    def _begin(self, read: Callable[[int], T]) -> _Job[T]:
        if self._closed:
            raise ValueError("these workers are closed")
        try:
            function = share(read)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"the data source or its transform cannot be sent to worker processes: {error}; "
                "define it at the top level of a module, or read without --workers"
            ) from error
        self._number += 1
        job: _Job[T] = _Job(self._number, function)
        self._jobs[job.number] = job
        return job

    def _end(self, job: _Job[Any]) -> None:
        if self._jobs.pop(job.number, None) is not None:
            job.function.close()
            for worker in self._workers:
                worker.forget(job.number)

    def _feed(self, job: _Job[T], todo: Iterator[int], count: int, prefetch_bytes: int) -> None:
        ahead = prefetch_bytes // job.largest if job.largest else 0
        ahead = max(count, min(ahead, _MOST * count))
        for number in islice(todo, max(0, ahead - job.pending - len(job.ready))):
            job.pending += 1
            self._idlest().call(Pending(job.number, number), job.function)

    def _idlest(self) -> Worker:
        """The worker with the fewest outstanding results; a new one if all have some."""
        least = min(self._workers, key=lambda worker: len(worker.pending), default=None)
        if least is None or (least.pending and len(self._workers) < self.count):
            if not self._workers:
                atexit.register(self.close)  # runs before multiprocessing waits for the workers
            least = Worker(f"reading worker {len(self._workers) + 1} of {self.count}")
            self._workers.append(least)
        return least

    def _receive(self) -> None:
        """Wait until results arrive, and hand them to their jobs."""
        ends = {worker.connection: worker for worker in self._workers}
        for end in wait([*ends, *(worker.process.sentinel for worker in self._workers)]):
            if isinstance(end, Connection):
                try:
                    job, number, result = ends[end].receive()
                except (EOFError, OSError):
                    self._replace(ends[end])
                    continue
                if job in self._jobs:
                    self._jobs[job].add(number, result)
        for worker in self._workers:
            if worker.has_ended:
                self._replace(worker)

    def _replace(self, lost: Worker) -> None:
        """Start a worker in place of one that was killed, with the same numbers.

        Raises:
            WorkerError: the worker was not killed, or is not the first one.
        """
        if lost.signal is None or self._replaced:
            said = lost.explain()
            if lost.signal is not None:
                said += (
                    ", the second one that was killed: lower --workers or raise --accumulate, and "
                    "continue with --resume"
                )
            raise WorkerError(said)
        self._replaced = True
        again = [pending for pending in lost.pending if pending.job in self._jobs]
        lost.stop(0)
        new = self._workers[self._workers.index(lost)] = Worker(lost.name)
        for pending in again:
            new.call(pending, self._jobs[pending.job].function)
        self.say(
            f"{lost.explain()}; it was replaced, and {len(again)} unfinished micro-batches are "
            "read again"
        )


class _Job(Generic[T]):
    """A function and its results.

    Attributes:
        number: of the job.
        function: shared with the workers.
        pending: number of results that are still outstanding.
        ready: results that have arrived, by their arguments.
        largest: size of the largest result in bytes.
    """

    def __init__(self, number: int, function: SharedObject) -> None:
        self.number, self.function = number, function
        self.pending, self.largest = 0, 0
        self.ready: dict[int, Any] = {}

    def add(self, number: int, result: Any) -> None:
        """Add a result."""
        self.pending -= 1
        self.ready[number] = result
        if not isinstance(result, UserError):
            self.largest = max(self.largest, result.nbytes)
