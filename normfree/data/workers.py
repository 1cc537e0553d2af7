"""Worker processes that prefetch results: in order, bounded in bytes, and never orphaned.

Each worker has its own pipe and receives nothing but numbers. No lock is shared, so a worker that
is killed at any point blocks no other worker: its pipe closes, and the main process raises an
error. If the main process is killed, another pipe closes, and every worker exits at once.

Differs from: ``torch.utils.data.DataLoader``, which bounds prefetching in batches, not bytes. Its
workers survive a killed main process if a fork server started them, because the fork server is
their parent. It reports a killed worker after five seconds, as a ``RuntimeError`` that does not
name the signal.
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
import torch.multiprocessing  # makes processes exchange tensors through shared memory

from normfree.errors import UserError

_MOST = 8  # results per worker, however small: each takes a file descriptor and space in a pipe
_PATIENCE = 1.0  # seconds to wait for a worker to exit by itself

_OFTEN = {
    "SIGKILL": ", often because the system ran out of memory",
    "SIGBUS": ", often because shared memory (/dev/shm) is full",
}


class Sized(Protocol):
    """An object with a size in bytes."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        ...


T = TypeVar("T", bound=Sized)


class WorkerError(UserError):
    """A worker process exited before its work was done."""


def read_ahead(
    read: Callable[[int], T], numbers: Sequence[int], workers: int, prefetch_bytes: int
) -> Iterator[T]:
    """``map(read, numbers)``, computed ahead of time by worker processes.

    At most ``prefetch_bytes // (nbytes of the largest result)`` results are in progress or waiting
    at any time, but at least one and at most eight per worker. Workers start once and stop with
    the iterator.

    Args:
        read: picklable; each worker receives one copy when it starts.
        numbers: the arguments of the calls.
        workers: number of processes, at least 1.
        prefetch_bytes: bound on prefetched results; each worker may always hold one.

    Raises:
        UserError: ``read`` raised an exception; the message is a single line.
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
            feed()  # keep the workers busy while the caller uses the result
            yield result


class _Worker:
    """The main process's side of one worker."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process, self.connection, self.pending = process, connection, 0


class _Pool(Generic[T]):
    """Processes that all call the same function."""

    def __init__(self, read: Callable[[int], T], count: int) -> None:
        self.workers: list[_Worker] = []
        atexit.register(self.close)  # runs before multiprocessing waits for the workers
        try:
            for k in range(count):
                self.workers.append(_start(read, f"reading worker {k + 1} of {count}"))
        except BaseException:
            self.close()
            raise

    @property
    def pending(self) -> int:
        """Number of results that are still outstanding."""
        return sum(worker.pending for worker in self.workers)

    def send(self, number: int) -> None:
        """Send a number to the worker with the fewest outstanding results."""
        worker = min(self.workers, key=lambda worker: worker.pending)
        worker.pending += 1
        with suppress(OSError):  # ``receive`` reports dead workers
            worker.connection.send(number)

    def receive(self) -> Iterator[tuple[int, T | UserError]]:
        """Wait until results arrive, and yield them."""
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
        """Stop the workers and discard what they are reading."""
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
    """How workers start: on Linux, from a fork server that has already imported the loader.

    Forking this process instead would copy locks whose threads do not exist in the child.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["normfree.data.loader"])
    return context


def _ended(worker: _Worker) -> WorkerError:
    """The error for a worker that has exited."""
    worker.process.join(_PATIENCE)
    code, name = worker.process.exitcode, worker.process.name
    if code is None or code >= 0:
        return WorkerError(
            f"{name} ended with exit code {code}: its own message is above; a script that uses "
            'workers needs an if __name__ == "__main__": guard'
        )
    try:
        said = signal.Signals(-code).name
    except ValueError:
        said = f"signal {-code}"
    return WorkerError(
        f"{name} was killed by {said}{_OFTEN.get(said, '')}: lower --workers or raise "
        "--accumulate, and continue with --resume"
    )


def _work(read: Callable[[int], Any], connection: Connection) -> None:
    """The main loop of a worker."""
    _end_with_the_main_process()
    for ignored in (signal.SIGINT, signal.SIGTERM):  # these reach every process of a terminal or
        signal.signal(ignored, signal.SIG_IGN)  # job; the main process decides when to stop
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # the main process has closed the pipe
        while True:
            number = connection.recv()
            connection.send((number, _result(read, number)))


def _result(read: Callable[[int], Any], number: int) -> Any:
    """The result, or the error as a single line."""
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
    """Exit as soon as the main process is gone, which closes its end of the sentinel pipe.

    The system's parent-death signal would not do: the parent is the fork server.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
