"""Memory that processes share: files without a name, passed through the pipe between them.

They vanish with the last process that holds them, however it ends. On Linux they are not part of
``/dev/shm``, which containers often limit to 64 MB.
"""

from __future__ import annotations

import mmap
import os
import socket
import tempfile
from multiprocessing.connection import Connection

#: Whether this system can pass files between processes.
AVAILABLE = hasattr(socket, "send_fds")


def new_file(nbytes: int) -> int:
    """A file without a name; its pages take memory once they are written to.

    Returns:
        The file descriptor, which the caller closes.
    """
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("normfree")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, nbytes)
    return file


def map_file(file: int, *, writable: bool) -> mmap.mmap:
    """A file as memory, which stays valid after the file is closed."""
    return mmap.mmap(file, 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)


class SharedFile:
    """A file that reaches another process within an object, see :mod:`normfree.data.share`.

    Args:
        number: file descriptor, which is closed with this object.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


def send_file(connection: Connection, file: int) -> None:
    """Send an open file to the process at the other end of a duplex pipe."""
    with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as end:
        socket.send_fds(end, [b"F"], [file])


def receive_file(connection: Connection) -> int:
    """Receive an open file, which the caller closes.

    Raises:
        EOFError: the sender has ended.
    """
    with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as end:
        _, files, _, _ = socket.recv_fds(end, 1, 1)
    if not files:
        raise EOFError
    return files[0]
