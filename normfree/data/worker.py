"""What a worker process does: it waits for numbers, and reads the micro-batch of each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeAlias

import torch

from normfree.data.ring import BatchWriter, Slot, allocate_in
from normfree.data.share import shared
from normfree.data.shared_files import receive_file
from normfree.errors import UserError


class NewJob(NamedTuple):
    """A function, whose shared file follows, and the ``files`` within it."""

    job: int
    pickle: range
    files: int


class Call(NamedTuple):
    """Call the function of a job; ``free`` are slots whose batches have been dropped."""

    job: int
    number: int
    free: list[Slot]


class EndOfJob(NamedTuple):
    """No more calls of a job."""

    job: int


class Answer(NamedTuple):
    """The result of a call, or the error it raised."""

    job: int
    number: int
    result: Any


Message: TypeAlias = NewJob | Call | EndOfJob


def work(connection: Connection) -> None:
    """The main loop of a worker."""
    _end_with_the_main_process()
    for ignored in ("SIGINT", "SIGTERM", "SIGUSR1"):  # these reach every process of a terminal or
        if hasattr(signal, ignored):  # job; the main process decides when to stop
            signal.signal(getattr(signal, ignored), signal.SIG_IGN)
    torch.set_num_threads(1)
    jobs: dict[int, Callable[[int], Any]] = {}
    writer = BatchWriter(connection)
    allocate_in(writer)
    with suppress(EOFError, OSError):  # the main process has closed the pipe
        while True:
            match connection.recv():
                case NewJob(job, pickle, files):
                    jobs[job] = _received(connection, pickle, files)
                case EndOfJob(job):
                    jobs.pop(job, None)
                case Call(job, number, free):
                    writer.release(free)
                    writer.send(Answer(job, number, _result(jobs[job], number)))


def _received(connection: Connection, pickle: range, count: int) -> Callable[[int], Any]:
    """The function of a job, or one that raises what went wrong."""
    file, *files = (receive_file(connection) for _ in range(1 + count))
    try:
        function: Callable[[int], Any] = shared(file, pickle, files)
    except Exception as error:
        return _Broken(error)
    finally:
        os.close(file)
    return function


class _Broken:
    """A function that could not be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, number: int) -> Any:
        raise self.error


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
