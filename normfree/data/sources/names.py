"""Millions of names in little memory: their bytes in one array, their positions in another."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from jaxtyping import Int, UInt8

_CHUNK = 2**14  # names copied at a time; bounds the memory for their bytes' positions


@dataclass(frozen=True, eq=False)
class Names(Sequence[str]):
    r"""A sequence of names that takes their bytes and eight more each.

    A list of strings takes about 60 bytes more each. Bytes that are not UTF-8 survive, as in the
    rest of Python, as lone surrogates. Both arrays can be shared between processes.

    Args:
        blob: the bytes of all names, one behind the other.
        offsets: where each name begins in ``blob``, and where the last one ends.
        prefix: begins every name, such as the directory that all files are in.

    >>> names = Names.of(["cat/1.jpg", "dog/é \udcff.jpg"], prefix="images/")
    >>> len(names), names[-1], list(names.take(np.array([1, 0])))
    (2, 'images/dog/é \udcff.jpg', ['images/dog/é \udcff.jpg', 'images/cat/1.jpg'])
    """

    blob: UInt8[np.ndarray, " bytes"] = field(repr=False)
    offsets: Int[np.ndarray, " n+1"] = field(repr=False)
    prefix: str = ""

    @classmethod
    def of(cls, names: Iterable[str], prefix: str = "") -> Names:
        """Store names."""
        builder = NamesBuilder()
        for name in names:
            builder.append(name)
        return builder.built(prefix)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return self.prefix + os.fsdecode(self.encoded(index))

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def encoded(self, index: int) -> bytes:
        """The bytes of a name, without the prefix."""
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"there are {count} names, and none has index {index}")
        begin, end = self.offsets[index % count], self.offsets[index % count + 1]
        return self.blob[begin:end].tobytes()

    def take(self, indices: Int[np.ndarray, " m"]) -> Names:
        """Some of the names, in any order."""
        indices = np.asarray(indices, dtype=np.int64)
        lengths = np.diff(self.offsets)[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        blob = np.empty(offsets[-1], dtype=np.uint8)
        for first in range(0, len(indices), _CHUNK):
            some = slice(first, first + _CHUNK)
            shift = self.offsets[indices[some]] - offsets[:-1][some]
            begin, end = offsets[first], offsets[min(first + _CHUNK, len(indices))]
            blob[begin:end] = self.blob[np.repeat(shift, lengths[some]) + np.arange(begin, end)]
        return Names(blob, offsets, self.prefix)

    def by_path(self) -> Int[np.ndarray, " n"]:
        """The order that sorts them as paths, directory by directory; equal names keep theirs.

        Every source sorts its examples so. The same images under the same names are therefore the
        same examples, whether they are in a folder, a table or an archive.

        >>> names = Names.of(["b/1", "a-b/1", "a/2", "a/1"])
        >>> [names[index] for index in names.by_path()]
        ['a/1', 'a/2', 'a-b/1', 'b/1']
        """
        keys = [path_key(self.encoded(index)) for index in range(len(self))]
        if all(keys[index - 1] <= keys[index] for index in range(1, len(keys))):
            return np.arange(len(keys))
        return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


class NamesBuilder:
    """Collects names, one at a time."""

    def __init__(self) -> None:
        self.blob, self.offsets = bytearray(), array("q", [0])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def append(self, name: str) -> None:
        """Add a name."""
        self.blob += os.fsencode(name)
        self.offsets.append(len(self.blob))

    def built(self, prefix: str = "") -> Names:
        """All names."""
        blob = np.frombuffer(bytes(self.blob), dtype=np.uint8)
        return Names(blob, np.array(self.offsets, dtype=np.int64), prefix)


def path_key(name: bytes) -> bytes:
    """A key that sorts paths by their components: ``/`` comes before any other character."""
    return name.replace(b"/", b"\0")
