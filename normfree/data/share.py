"""Send an object to worker processes without copying its large parts to each of them.

Large arrays, such as the index of a data source, are written to one shared file, which every
process maps. So an index of a million images is in memory once, and starting a worker takes as long
as with a small one.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from normfree.data.shared_files import SharedFile, map_file, new_file

_LARGE = 1 << 16  # bytes of an array from which on it is shared
_ALIGNMENT = 64


@dataclass(frozen=True)
class SharedObject:
    """An object in a shared file.

    Attributes:
        file: descriptor of the file, open until :meth:`close`.
        pickle: where in the file the object's pickle lies; its large parts are before it.
        files: the files within the object, which belong to it.
    """

    file: int
    pickle: range
    files: tuple[SharedFile, ...] = ()

    def close(self) -> None:
        """Close the file; processes that mapped it keep it."""
        os.close(self.file)


def share(value: Any) -> SharedObject:
    """Write an object to a shared file for :func:`shared`; large arrays arrive read-only.

    Raises:
        Exception: what pickle raises if the object cannot be pickled.

    >>> sent = share({"classes": ("cat", "dog"), "labels": np.arange(100_000) % 2})
    >>> found = shared(sent.file, sent.pickle)
    >>> found["classes"], found["labels"][-3:], len(sent.pickle) < 1000
    (('cat', 'dog'), array([1, 0, 1]), True)
    >>> sent.close()
    """
    content = io.BytesIO()
    pickler = _Pickler(content)
    pickler.dump(value)
    pickled = content.getbuffer()
    where = range(pickler.size, pickler.size + len(pickled))
    file = new_file(where.stop)
    with map_file(file, writable=True) as memory:
        for offset, array in pickler.arrays:
            np.ndarray(array.shape, array.dtype, memory, offset)[...] = array
        memory[where.start : where.stop] = pickled.tobytes()
    return SharedObject(file, where, tuple(pickler.files))


def shared(file: int, pickle: range, files: Sequence[int] = ()) -> Any:
    """Read an object that :func:`share` wrote, with the files within it."""
    memory = map_file(file, writable=False)
    with memoryview(memory) as view:
        content = view[pickle.start : pickle.stop].tobytes()
    return _Unpickler(io.BytesIO(content), memory, files).load()


class _Pickler(pickle.Pickler):
    """Sets large arrays and files aside."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.arrays: list[tuple[int, np.ndarray]] = []
        self.files: list[SharedFile] = []
        self.size = 0
        self._known: dict[int, tuple[Any, ...]] = {}

    def persistent_id(self, value: Any) -> Any:
        """What the unpickler gets instead of a large array or a file."""
        if isinstance(value, SharedFile):
            self.files.append(value)
            return len(self.files) - 1
        if type(value) is not np.ndarray or value.nbytes < _LARGE or value.dtype.hasobject:
            return None
        if id(value) not in self._known:
            offset = -(-self.size // _ALIGNMENT) * _ALIGNMENT
            self.size = offset + value.nbytes
            self.arrays.append((offset, value))  # which keeps the array, and so its id
            self._known[id(value)] = value.shape, value.dtype, offset
        return self._known[id(value)]


class _Unpickler(pickle.Unpickler):
    """Finds large arrays in the shared memory."""

    def __init__(self, file: io.BytesIO, memory: mmap.mmap, files: Sequence[int]) -> None:
        super().__init__(file)
        self.memory, self.files = memory, files

    def persistent_load(self, place: Any) -> Any:
        """The array or file for what the pickler put in its place."""
        if isinstance(place, int):
            return SharedFile(self.files[place])
        shape, dtype, offset = place
        return np.ndarray(shape, dtype, self.memory, offset)
