"""One worker process as the main process sees it: started, spoken to, and its end explained."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from contextlib import suppress
from multiprocessing.context import BaseContext
from typing import NamedTuple

import torch.multiprocessing  # noqa: F401 - loaded before the fork server starts

from normfree.data.ring import BatchReader
from normfree.data.share import SharedObject
from normfree.data.shared_files import AVAILABLE, send_file
from normfree.data.worker import Answer, Call, EndOfJob, Message, NewJob, work
from normfree.errors import UserError

PATIENCE = 1.0  # seconds to wait for a worker to exit by itself

_OFTEN = {
    "SIGKILL": ", often because the system ran out of memory",
    "SIGBUS": ", often because memory for the batches ran out",
}


class WorkerError(UserError):
    """A worker process exited before its work was done."""


class Pending(NamedTuple):
    """A number that a worker is to read."""

    job: int
    number: int


class Worker:
    """A running worker.

    Args:
        name: of the process.

    Attributes:
        pending: numbers that it has not answered.

    Raises:
        UserError: this system has no worker processes.
    """

    def __init__(self, name: str) -> None:
        if not AVAILABLE:
            raise UserError("worker processes need Linux or macOS: read with --workers 0")
        context = _process_context()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs,), name=name, daemon=True)  # type: ignore[attr-defined]
        try:
            self.process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()
        self.name = name
        self.pending: list[Pending] = []
        self._known: set[int] = set()
        self._batches = BatchReader(self.connection)

    def call(self, pending: Pending, function: SharedObject) -> None:
        """Send a number, and the function first if the worker does not have it."""
        self.pending.append(pending)
        if pending.job not in self._known:
            self._known.add(pending.job)
            inside = [file.number for file in function.files]
            self._send(NewJob(pending.job, function.pickle, len(inside)), function.file, *inside)
        batches = self._batches.free
        free = [batches.popleft() for _ in range(len(batches))]
        self._send(Call(*pending, free))

    def forget(self, job: int) -> None:
        """Tell the worker that a job has ended."""
        if job in self._known:
            self._known.discard(job)
            self._send(EndOfJob(job))

    def receive(self) -> Answer:
        """Receive an answer.

        Raises:
            EOFError, OSError: the worker has ended.
        """
        answer: Answer = self._batches.receive()
        self.pending.remove(Pending(answer.job, answer.number))
        return answer

    @property
    def has_ended(self) -> bool:
        """Whether the worker is gone and everything that it sent has been received."""
        return not self.process.is_alive() and not self.connection.poll()

    @property
    def signal(self) -> str | None:
        """The signal that ended the worker, None if it exited by itself."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        if code is None or code >= 0:
            return None
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"

    def explain(self) -> str:
        """How the worker ended, for a person."""
        if self.signal is not None:
            return f"{self.name} was killed by {self.signal}{_OFTEN.get(self.signal, '')}"
        return (
            f"{self.name} ended with exit code {self.process.exitcode}: its own message is above; "
            'a script that uses workers needs an if __name__ == "__main__": guard'
        )

    def stop(self, patience: float) -> None:
        """Wait for the worker to exit, which it does when its pipe is closed; then kill it."""
        self.connection.close()
        self.process.join(max(0.0, patience))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _send(self, message: Message, *files: int) -> None:
        with suppress(OSError):  # ``receive`` reports dead workers
            self.connection.send(message)
            for file in files:
                send_file(self.connection, file)


def _process_context() -> BaseContext:
    """How workers start: on Linux, from a fork server that has already imported the loader.

    Forking this process instead would copy locks whose threads do not exist in the child.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["normfree.data.loader"])
    return context
