"""Report a run that does not get on: what every thread of every rank is doing."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO, TypeVar

from normfree.train.runtime import Runtime

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

#: Exit code of a run that was ended because it hung (``EX_TEMPFAIL``: it may go on).
EXIT_HUNG = 75

_LOOKS = 4  # in the time that may pass
_LONGEST = 5.0  # seconds between two looks


class Beat(NamedTuple):
    """How far a rank is.

    Attributes:
        looks: of its watchdog so far: they go on while the process lives.
        beats: its progress.
        step: steps done.
        doing: what it does.
    """

    looks: int
    beats: int
    step: int
    doing: str

    @classmethod
    def read(cls, text: str) -> Beat:
        """The inverse of ``str``."""
        looks, beats, step, doing = text.split(" ", 3)
        return cls(int(looks), int(beats), int(step), doing)

    def __str__(self) -> str:
        return f"{self.looks} {self.beats} {self.step} {self.doing}"


class Watchdog:
    """A thread that reports when nothing has happened for long.

    Each rank writes the Python stacks of all its threads to ``stacks-rankN.txt`` in the run's
    directory, and the main one says which ranks are behind, and which do not answer. Ranks tell
    each other how far they are through the store in which they met, so that it is known of a
    stopped process, too.

    Args:
        seconds: without progress; 0: never.
        action: after the report.
        directory: of the run.
        runtime: the ranks.
        say: prints a line, on the main rank.

    Example:
        >>> import tempfile
        >>> with Watchdog(60, directory=Path(tempfile.mkdtemp())) as watchdog:
        ...     watchdog.beat("training", step=1)
        ...     list(watchdog.through([1, 2], "evaluating"))
        [1, 2]
    """

    def __init__(
        self,
        seconds: float = 0.0,
        action: Literal["report", "abort"] = "report",
        *,
        directory: Path = Path(),
        runtime: Runtime | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.seconds = seconds
        self.action = action
        self.directory = directory
        self.runtime = Runtime(device="cpu") if runtime is None else runtime
        self.say = say
        self.pause = min(seconds / _LOOKS, _LONGEST)
        self._beats, self._step, self._doing, self._looks = 0, 0, "starting", 0
        self._store = _own_connection(self.runtime) if seconds > 0 else None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self, doing: str, step: int | None = None) -> None:
        """Something has happened.

        Args:
            doing: what comes now.
            step: steps done; None: as before.
        """
        self._beats += 1
        self._doing = doing
        self._step = self._step if step is None else step

    def through(self, items: Iterable[T], doing: str) -> Iterator[T]:
        """The same items, each of which is progress."""
        for item in items:
            self.beat(doing)
            yield item

    def __enter__(self) -> Watchdog:
        """Start to watch."""
        if self.seconds > 0:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Watch no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        seen, since, reported = -1, time.monotonic(), False
        while not self._ended.wait(self.pause):
            self._looks += 1
            self._publish()
            if self._beats != seen:
                if reported:
                    self._tell(f"the run goes on, with step {self._step}")
                seen, since, reported = self._beats, time.monotonic(), False
            elif not reported and time.monotonic() - since >= self.seconds:
                reported = True
                self._report()

    def _report(self) -> None:
        path = self._write_stacks()
        said = f"no progress for {self.seconds:g} s: {self._doing}, {self._step} steps done"
        if self.runtime.main:
            ranks = self._about_others()
            where = path if self.runtime.world == 1 else path.with_name("stacks-rank*.txt")
            end = "ends" if self.action == "abort" else "waits"
            self._tell(f"{said}{ranks}; the run {end}. What each thread was doing: {where}")
        elif self.action == "abort":
            self._answer()
        if self.action == "abort" and not self._ended.is_set():
            sys.stdout.flush()
            os._exit(EXIT_HUNG)  # the main thread does not return to hear of an exception

    def _answer(self) -> None:
        """Stay until the main rank has asked who answers."""
        for _ in range(_LOOKS):
            self._looks += 1
            self._publish()
            self._ended.wait(self.pause)

    def _tell(self, text: str) -> None:
        if self.runtime.main:
            self.say(f"warning: {text}")

    def _write_stacks(self) -> Path:
        """The stacks of all threads of this rank, in its file."""
        path = self.directory / f"stacks-rank{self.runtime.rank}.txt"
        try:
            with path.open("w", encoding="utf-8") as file:
                self._dump(file)
        except OSError:  # another machine need not have the directory, or the disk is full
            with suppress(OSError, ValueError, AttributeError):
                self._dump(sys.stderr)
        return path

    def _dump(self, file: TextIO) -> None:
        file.write(
            f"rank {self.runtime.rank}, process {os.getpid()} on {socket.gethostname()}: "
            f"{self._doing}, {self._step} steps done, nothing since {self.seconds:g} s\n"
        )
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)

    def _publish(self) -> None:
        """Tell the other ranks how far this one is."""
        if self._store is not None:
            with suppress(RuntimeError):  # the rank that keeps the store has ended
                now = Beat(self._looks, self._beats, self._step, self._doing)
                self._store.set(f"beat/{self.runtime.rank}", str(now))

    def _about_others(self) -> str:
        """Which ranks are behind, and which do not answer."""
        before = self._beats_of_all()
        self._ended.wait(2 * self.pause)
        self._looks += 1
        self._publish()
        return about(before, self._beats_of_all(), self.runtime.world)

    def _beats_of_all(self) -> dict[int, Beat]:
        if self._store is None:
            return {}
        found = {}
        with suppress(RuntimeError):
            for rank in range(self.runtime.world):
                if self._store.check([f"beat/{rank}"]):
                    found[rank] = Beat.read(self._store.get(f"beat/{rank}").decode())
        return found


def _own_connection(runtime: Runtime) -> Store | None:
    """The store of the ranks, for a thread: what waits for an answer there keeps others waiting."""
    store: Any = runtime.store
    return None if store is None else store.clone()


def about(before: dict[int, Beat], now: dict[int, Beat], world: int) -> str:
    """Which ranks hold the others up.

    Args:
        before: how far each rank was that has said so.
        now: the same, some looks later.
        world: number of ranks.

    >>> fine, slow = Beat(9, 70, 7, "training"), Beat(9, 60, 6, "training")
    >>> later = {0: fine._replace(looks=11), 1: slow._replace(looks=11), 2: slow}
    >>> print(about({0: fine, 1: slow, 2: slow}, later, world=4))
    ; rank 1 is behind (6 steps done, training), rank 2 does not answer (last heard of: 6
    steps done, training), rank 3 has never answered
    """
    most = max((beat.step for beat in now.values()), default=0)
    said = []
    for rank in range(world if world > 1 else 0):
        if rank not in now:
            said.append(f"rank {rank} has never answered")
            continue
        beat = now[rank]
        where = f"{beat.step} steps done, {beat.doing}"
        if rank in before and before[rank].looks == beat.looks:
            said.append(f"rank {rank} does not answer (last heard of: {where})")
        elif beat.step < most:
            said.append(f"rank {rank} is behind ({where})")
    return f"; {', '.join(said)}" if said else ""
