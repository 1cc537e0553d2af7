"""Worker processes that read ahead: in order, within a bound of bytes, and never left behind.

Each worker has a pipe of its own and is sent nothing but numbers. No lock is shared, so a worker
that is killed in the middle of anything stops no other: its pipe closes and the main process says
so. When the main process is killed, its end of another pipe closes, and each worker ends at once.

Differs from: ``torch.utils.data.DataLoader``, whose read-ahead is counted in batches, not bytes;
whose workers survive a killed main process where they come from a fork server, because it is the
fork server that is their parent; and which reports a killed worker after five seconds, as a
``RuntimeError`` that does not name the signal.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.multiprocessing  # so that tensors travel between processes by their shared memory

from normfree.errors import UserError

_MOST = 8  # results a worker, however small: each takes a file descriptor and a place in a pipe
_PATIENCE = 1.0  # seconds in which a worker may end by itself

_OFTEN = {
    "SIGKILL": ", often the system's answer when memory is short",
    "SIGBUS": ", often because shared memory (/dev/shm) is full",
}


class Sized(Protocol):
    """What takes memory."""

    @property
    def nbytes(self) -> int:
        """How much."""
        ...


T = TypeVar("T", bound=Sized)


class WorkerError(UserError):
    """A worker process ended before its work was done."""


def read_ahead(
    read: Callable[[int], T], numbers: Sequence[int], workers: int, prefetch_bytes: int
) -> Iterator[T]:
    """``map(read, numbers)``, computed by worker processes before it is asked for.

    At most ``prefetch_bytes // nbytes of the largest result`` results are being read or waiting at
    a time, but one and no more than eight for each worker. Workers start once and end with the
    iterator.

    Args:
        read: picklable; each worker gets one copy, when it starts.
        numbers: what to call it with.
        workers: how many processes, 1 or more.
        prefetch_bytes: bound of what is read ahead, as long as each worker has something to do.

    Raises:
        UserError: what ``read`` raised, on one line.
        WorkerError: a worker was killed.
    """
    if not len(numbers):
        return
    count = min(workers, len(numbers))
    with closing(_Pool(read, count)) as pool:
        todo, ready, largest = iter(numbers), dict[int, T | UserError](), 0

        def feed() -> None:
            ahead = prefetch_bytes // largest if largest else 0
            ahead = max(count, min(ahead, _MOST * count))
            for number in islice(todo, max(0, ahead - pool.pending - len(ready))):
                pool.send(number)

        for number in numbers:
            feed()
            while number not in ready:
                for received, result in pool.receive():
                    ready[received] = result
                    largest = max(largest, 0 if isinstance(result, UserError) else result.nbytes)
            result = ready.pop(number)
            if isinstance(result, UserError):
                raise result
            feed()  # the workers go on while the caller works
            yield result


class _Worker:
    """The main process's side of one worker."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process, self.connection, self.pending = process, connection, 0


class _Pool(Generic[T]):
    """Processes that all call the same function."""

    def __init__(self, read: Callable[[int], T], count: int) -> None:
        self.workers: list[_Worker] = []
        atexit.register(self.close)  # before multiprocessing waits for them
        try:
            for k in range(count):
                self.workers.append(_start(read, f"reading worker {k + 1} of {count}"))
        except BaseException:
            self.close()
            raise

    @property
    def pending(self) -> int:
        """Numbers that no result has come for."""
        return sum(worker.pending for worker in self.workers)

    def send(self, number: int) -> None:
        """Give a number to the worker that has the fewest."""
        worker = min(self.workers, key=lambda worker: worker.pending)
        worker.pending += 1
        with suppress(OSError):  # a dead worker is noticed where its result is missed
            worker.connection.send(number)

    def receive(self) -> Iterator[tuple[int, T | UserError]]:
        """Wait for results, and deliver those that are there."""
        ends = {worker.connection: worker for worker in self.workers}
        for end in wait([*ends, *(worker.process.sentinel for worker in self.workers)]):
            if not isinstance(end, Connection):
                continue
            worker = ends[end]
            try:
                result = end.recv()
            except (EOFError, OSError):
                raise _ended(worker) from None
            worker.pending -= 1
            yield result
        for worker in self.workers:
            if not worker.process.is_alive():
                raise _ended(worker)

    def close(self) -> None:
        """End the workers; what they are reading is of no use to anybody."""
        atexit.unregister(self.close)
        for worker in self.workers:
            worker.connection.close()
        deadline = time.monotonic() + _PATIENCE
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self.workers.clear()


def _start(read: Callable[[int], Any], name: str) -> _Worker:
    context = _process_context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(read, theirs), name=name, daemon=True)  # type: ignore[attr-defined]
    try:
        process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        ours.close()
        raise UserError(
            f"the data source or its transform cannot be sent to worker processes: {error}; define "
            "it at the top level of a module, or read without --workers"
        ) from error
    finally:
        theirs.close()
    return _Worker(process, ours)


def _process_context() -> BaseContext:
    """How workers start: from a clean process that has imported the loader already, if possible.

    They are not forked from this one, whose threads they would inherit half-dead.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["normfree.data.loader"])
    return context


def _ended(worker: _Worker) -> WorkerError:
    """What to say of a worker that is gone."""
    worker.process.join(_PATIENCE)
    code, name = worker.process.exitcode, worker.process.name
    if code is None or code >= 0:
        return WorkerError(
            f"{name} ended with exit code {code}: its own message is above; a script that uses "
            'workers needs if __name__ == "__main__":'
        )
    try:
        said = signal.Signals(-code).name
    except ValueError:
        said = f"signal {-code}"
    return WorkerError(
        f"{name} was killed by {said}{_OFTEN.get(said, '')}: lower --workers or raise "
        "--accumulate, and go on with --resume"
    )


def _work(read: Callable[[int], Any], connection: Connection) -> None:
    """A worker's life."""
    _end_with_the_main_process()
    for ignored in (signal.SIGINT, signal.SIGTERM):  # they reach all processes of a terminal or a
        signal.signal(ignored, signal.SIG_IGN)  # job; the main one decides when reading ends
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # the main process has closed the pipe
        while True:
            number = connection.recv()
            connection.send((number, _result(read, number)))


def _result(read: Callable[[int], Any], number: int) -> Any:
    """A result, or what went wrong on one line."""
    try:
        return read(number)
    except UserError as error:
        return error
    except MemoryError:
        return UserError(
            "a reading worker ran out of memory; lower --workers, or raise --accumulate"
        )
    except Exception as error:
        said = " ".join(str(error).split())
        return UserError(
            f"a reading worker failed: {type(error).__name__}: {said}; --workers 0 shows where"
        )


def _end_with_the_main_process() -> None:
    """Leave at once when it is gone, whatever is being read; its end of the sentinel closes then.

    The system's own signal at a parent's death would come from the fork server.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
