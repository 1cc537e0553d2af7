"""Send an object to worker processes without copying its large parts to each of them.

Arrays and long tuples of strings, such as the index of a data source, are written to one shared
file, which every process maps. So an index of a million images is in memory once, and starting a
worker takes as long as with a small one.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np

from normfree.data.names import Names
from normfree.data.shared_files import map_file, new_file

_LARGE = 1 << 16  # bytes of an array, or characters of a tuple, from which on it is shared
_MANY = 1 << 12  # strings of a tuple from which on it is shared
_ALIGNMENT = 64


@dataclass(frozen=True)
class SharedObject:
    """An object in a shared file.

    Attributes:
        file: descriptor of the file, open until :meth:`close`.
        pickle: where in the file the object's pickle lies; its large parts are before it.
    """

    file: int
    pickle: range

    def close(self) -> None:
        """Close the file; processes that mapped it keep it."""
        os.close(self.file)


def share(value: Any) -> SharedObject:
    """Write an object to a shared file, to be read by :func:`shared`.

    Arrays arrive read-only; a long tuple of strings arrives as :class:`~normfree.data.names.Names`.

    Raises:
        Exception: what pickle raises if the object cannot be pickled.

    >>> class_names, numbers = ("cat", "dog"), np.arange(100_000)
    >>> sent = share((class_names, numbers))
    >>> names, found = shared(sent.file, sent.pickle)
    >>> names, found.flags.writeable, len(sent.pickle) < 1000
    (('cat', 'dog'), False, True)
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
    return SharedObject(file, where)


def shared(file: int, pickle: range) -> Any:
    """Read an object that :func:`share` wrote."""
    memory = map_file(file, writable=False)
    with memoryview(memory) as view:
        content = view[pickle.start : pickle.stop].tobytes()
    return _Unpickler(io.BytesIO(content), memory).load()


class _Pickler(pickle.Pickler):
    """Sets large arrays aside."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.arrays: list[tuple[int, np.ndarray]] = []
        self.size = 0
        self._known: dict[int, tuple[Any, Any]] = {}  # also keeps the objects, and so their ids

    def persistent_id(self, value: Any) -> Any:
        """What the unpickler gets instead of a large object."""
        if not _is_large(value):
            return None
        if id(value) not in self._known:
            names = Names.of(value) if type(value) is tuple else None
            parts = (value,) if names is None else (names.text, names.ends)
            self._known[id(value)] = (value, tuple(map(self._set_aside, parts)))
        return self._known[id(value)][1]

    def _set_aside(self, array: np.ndarray) -> tuple[Any, ...]:
        offset = -(-self.size // _ALIGNMENT) * _ALIGNMENT
        self.arrays.append((offset, array))
        self.size = offset + array.nbytes
        return array.shape, array.dtype, offset


def _is_large(value: Any) -> bool:
    if type(value) is np.ndarray:
        return value.nbytes >= _LARGE and not value.dtype.hasobject
    return (
        type(value) is tuple
        and len(value) >= _MANY
        and all(type(item) is str for item in value)
        and sum(map(len, value)) >= _LARGE
    )


class _Unpickler(pickle.Unpickler):
    """Finds large arrays in the shared memory."""

    def __init__(self, file: io.BytesIO, memory: mmap.mmap) -> None:
        super().__init__(file)
        self.memory = memory

    def persistent_load(self, parts: Any) -> Any:
        """The object for what the pickler put in its place."""
        arrays = [np.ndarray(shape, dtype, self.memory, at) for shape, dtype, at in parts]
        return arrays[0] if len(arrays) == 1 else Names(*arrays)
