"""One writer for a run's directory, and who it is."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from normfree.atomic import write_atomic
from normfree.errors import UserError, printable

#: The file that is locked. It stays: only the lock on it counts.
LOCK = ".lock"
#: Says who holds the lock; a process that was killed leaves it behind.
WRITER = ".writer.json"

_MARK = ".lock.mark"  # what exists while it is held, where files cannot be locked
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_LARGEST = 4096  # bytes of what says who holds it


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other process from writing to a directory.

    The lock is the kernel's (``flock``), which frees it when the process ends, however it ends. On
    NFS it holds for all machines that mount the directory. A file system without locks has a file
    as a mark instead, which names process and machine; it is taken over where that process is gone
    from this machine.

    Args:
        directory: of the run.

    Raises:
        UserError: another process holds it.

    Example:
        >>> import tempfile
        >>> with locked(Path(tempfile.mkdtemp())) as nothing:
        ...     nothing is None
        True
    """
    try:
        lock = _acquired(directory)
    except Timeout:
        raise UserError(
            f"another process is training in {directory}{_holder(directory)}; wait for it, stop "
            "it, or choose another --out"
        ) from None
    writer = directory / WRITER
    try:
        write_atomic(writer, _own_name())
        yield
    finally:
        writer.unlink(missing_ok=True)
        lock.release()


def _acquired(directory: Path) -> BaseFileLock:
    """The lock, held."""
    lock: BaseFileLock = FileLock(directory / LOCK, timeout=0)
    try:
        lock.acquire()
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in _NO_LOCKS:
            raise
        lock = SoftFileLock(directory / _MARK, timeout=0)
        lock.acquire()
    return lock


def _own_name() -> bytes:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode()


def _holder(directory: Path) -> str:
    """Who holds the lock; nothing if that cannot be read."""
    try:
        with (directory / WRITER).open("rb") as file:
            said = json.loads(file.read(_LARGEST))
        pid, host, since = (printable(str(said[name]), 60) for name in ("pid", "host", "since"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return f" (process {pid} on {host}, since {since})"
