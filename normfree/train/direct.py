"""New files of many bytes, written around the page cache where the system can."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 8 << 20  # bytes; a multiple of what any disk asks direct writes to be aligned to


class DirectFile:
    """A new file.

    The page cache costs a copy and a page of memory for every 4 kB, which takes more of a processor
    than anything else about a checkpoint, and pushes out the images that are read again. So whole
    blocks go to the disk from memory that is aligned for it. Where a file system refuses that, and
    for the end of a file, writes are ordinary.

    Args:
        path: of the file; what is there is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._memory = mmap.mmap(-1, _BLOCK)  # begins with a page
        self._block: Any = np.frombuffer(self._memory, np.uint8)
        self._filled = 0
        self._direct = False
        self._set_direct(True)

    def write(self, content: Any, /) -> int:
        """Take bytes; they are copied before it returns."""
        left = np.frombuffer(content, np.uint8)
        count = len(left)
        while len(left):
            part = left[: _BLOCK - self._filled]
            self._block[self._filled : self._filled + len(part)] = part  # without Python's lock
            self._filled += len(part)
            left = left[len(part) :]
            if self._filled == _BLOCK:
                self._flush()
        return count

    def sync(self) -> None:
        """Wait until all of it is on the disk; after that, nothing more can be written."""
        self._set_direct(False)
        self._flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _flush(self) -> None:
        done = 0
        while done < self._filled:
            try:
                done += os.write(self._file.fileno(), self._block[done : self._filled])
            except OSError as error:
                if not self._direct or error.errno != errno.EINVAL:
                    raise
                self._set_direct(False)  # it asks for another alignment
            if done % mmap.PAGESIZE:
                self._set_direct(False)
        self._filled = 0

    def _set_direct(self, wanted: bool) -> None:
        if sys.platform != "linux":
            return
        import fcntl

        flags = fcntl.fcntl(self._file, fcntl.F_GETFL) & ~os.O_DIRECT
        try:
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags | (os.O_DIRECT if wanted else 0))
            self._direct = wanted
        except OSError:  # not on this file system
            self._direct = False
