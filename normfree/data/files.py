"""Open untrusted paths safely: they may be FIFOs, devices, or sparse files of terabytes."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file (or a link to one) for reading, without ever blocking on a FIFO.

    Raises:
        OSError: the file does not exist, or is a directory, a FIFO, a device or a socket.

    >>> open_regular(Path("/dev/null"))
    Traceback (most recent call last):
    ...
    OSError: [Errno 22] not a regular file
    """
    _check_regular(path.stat())  # before opening, which alone can trigger an action in a device
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115
    try:
        _check_regular(os.fstat(file.fileno()))  # the file may have been replaced since
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a regular file.

    Args:
        path: the file.
        max_bytes: the largest size allowed.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is too large.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(
                errno.EFBIG, f"it has {size:,} bytes, more than the {max_bytes:,} allowed"
            )
        return file.read(size)


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
