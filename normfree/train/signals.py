"""Stop a run between two steps when the user or the scheduler asks for it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from normfree.errors import Interrupted


class StopRequest:
    """While it is open, SIGINT, SIGTERM and SIGUSR1 only set a flag; a second SIGINT stops at once.

    SIGUSR1 is what SLURM can send before the time of a job is over.

    Signals can be handled in the main thread only; elsewhere this does nothing.

    Example:
        >>> with StopRequest() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     stop.signum == signal.SIGTERM
        True
    """

    SIGNALS = (
        signal.SIGINT,
        signal.SIGTERM,
        *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()),  # not on Windows
    )

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for signum in self.SIGNALS:
                self._previous[signum] = signal.signal(signum, self._note)
        return self

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum == signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)


def interrupted(signum: int, step: int, directory: Path) -> Interrupted:
    """The error that ends a run after its step was saved."""
    return Interrupted(
        signum,
        f"stopped by {signal.Signals(signum).name} after step {step}; "
        f"go on with: normfree train --resume --out {directory}",
    )
