"""Shared memory for batches, used again and again.

A worker writes each batch into a slot of a shared file, which the main process has mapped, too: the
pixels are never copied. The slot is free again once the main process has dropped the batch. New
memory for each batch would cost more than copying it: the system zeroes it page by page, and maps
and unmaps it in two processes.
"""

from __future__ import annotations

import heapq
import io
import math
import mmap
import os
import pickle
import weakref
from collections import deque
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from normfree.data.shared_files import map_file, new_file, receive_file, send_file

_SLOTS = 32  # of a file; only those that are used take memory
_PAGE = mmap.ALLOCATIONGRANULARITY


_writer: BatchWriter | None = None  # of this process, if it is a worker


def allocate(shape: tuple[int, ...], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
    """Memory for a batch: in a worker, that which it shares with the main process.

    >>> allocate((2, 3), torch.uint8).shape
    torch.Size([2, 3])
    """
    if _writer is None or not math.prod(shape):
        return torch.empty(shape, dtype=dtype)
    return _writer.empty(shape, dtype)


def allocate_in(writer: BatchWriter) -> None:
    """Let :func:`allocate` use a worker's slots from now on."""
    global _writer  # noqa: PLW0603 - a process is a worker for all its life
    _writer = writer


class Slot(NamedTuple):
    """A place for a batch: the number of a file, and of a slot in it."""

    ring: int
    slot: int


class _Placed(NamedTuple):
    """A tensor in a slot, as it is sent."""

    place: Slot
    begin: int
    shape: tuple[int, ...]
    dtype: str


class _Ring:
    """The worker's side of a file of slots."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.file = new_file(_SLOTS * capacity)
        self.memory = map_file(self.file, writable=True)
        self.free = list(range(_SLOTS))  # a heap: low slots first, so that few are ever touched
        self.address = np.frombuffer(self.memory, np.uint8).ctypes.data

    def close(self) -> None:
        os.close(self.file)


class BatchWriter:
    """A worker's slots: batches are allocated in them and sent by reference.

    Args:
        connection: to the main process, which has a :class:`BatchReader`.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rings: dict[int, _Ring] = {}
        self.count = 0
        self.open: set[Slot] = set()  # allocated and not sent

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
        """Allocate a tensor in a free slot, with arbitrary values."""
        nbytes = math.prod(shape) * dtype.itemsize
        place = self._slot(max(nbytes, 1))
        self.open.add(place)
        ring = self.rings[place.ring]
        flat = torch.frombuffer(
            ring.memory, dtype=torch.uint8, count=nbytes, offset=place.slot * ring.capacity
        )
        return flat.view(dtype).view(shape)

    def send(self, value: Any) -> None:
        """Send an object; tensors in slots go by reference."""
        content = io.BytesIO()
        pickler = _SlotPickler(content, self)
        pickler.dump((tuple(self.rings), value))
        self.release(self.open - pickler.sent)  # of a batch that failed
        self.open.clear()
        self.connection.send_bytes(content.getbuffer())

    def release(self, places: set[Slot] | list[Slot]) -> None:
        """Slots whose batch nobody needs any more."""
        for place in places:
            if place.ring in self.rings:
                heapq.heappush(self.rings[place.ring].free, place.slot)
        for number, ring in list(self.rings.items()):
            if len(ring.free) == _SLOTS and len(self.rings) > 1:
                self._drop(number)

    def find(self, tensor: Tensor) -> _Placed | None:
        """Where a tensor lies, if it is in a slot."""
        address = tensor.data_ptr()
        for number, ring in self.rings.items():
            slot, begin = divmod(address - ring.address, ring.capacity)
            if 0 <= slot < _SLOTS and tensor.is_contiguous() and tensor.numel():
                name = str(tensor.dtype).removeprefix("torch.")
                return _Placed(Slot(number, slot), begin, tuple(tensor.shape), name)
        return None

    def _slot(self, nbytes: int) -> Slot:
        for number, ring in self.rings.items():
            if ring.capacity >= nbytes and ring.free:
                return Slot(number, heapq.heappop(ring.free))
        for number, ring in list(self.rings.items()):
            if ring.capacity < nbytes and not any(place.ring == number for place in self.open):
                self._drop(number)
        self.count += 1
        capacity = max([nbytes, *(ring.capacity for ring in self.rings.values())])
        ring = self.rings[self.count] = _Ring(-(-capacity // _PAGE) * _PAGE)
        self.connection.send_bytes(pickle.dumps((self.count, None)))
        send_file(self.connection, ring.file)
        return Slot(self.count, heapq.heappop(ring.free))

    def _drop(self, number: int) -> None:
        self.rings.pop(number).close()


class BatchReader:
    """The main process's side: the batches of one worker.

    Attributes:
        free: slots whose batches have been dropped since; they are to be sent to the worker.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rings: dict[int, tuple[mmap.mmap, int]] = {}
        self.free: deque[Slot] = deque()  # appended to by the garbage collector

    def receive(self) -> Any:
        """Receive an object.

        Raises:
            EOFError, OSError: the worker has ended.
        """
        while True:
            content = io.BytesIO(self.connection.recv_bytes())
            rings, value = _SlotUnpickler(content, self).load()
            if isinstance(rings, tuple):
                self.rings = {number: self.rings[number] for number in rings}
                return value
            file = receive_file(self.connection)
            try:
                self.rings[rings] = map_file(file, writable=True), os.fstat(file).st_size // _SLOTS
            finally:
                os.close(file)

    def tensor(self, placed: _Placed) -> Shaped[Tensor, "..."]:
        """The tensor in a slot, which becomes free when the tensor and its views are dropped."""
        memory, capacity = self.rings[placed.place.ring]
        begin = placed.place.slot * capacity + placed.begin
        pixels = np.ndarray(placed.shape, np.dtype(placed.dtype), memory, begin)
        weakref.finalize(pixels, self.free.append, placed.place).atexit = False
        return torch.from_numpy(pixels)


class _SlotPickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, writer: BatchWriter) -> None:
        super().__init__(file, protocol=5)
        self.writer = writer
        self.sent: set[Slot] = set()

    def persistent_id(self, value: Any) -> Any:
        placed = self.writer.find(value) if isinstance(value, Tensor) else None
        if placed is None or placed.place in self.sent:  # a slot is released by one tensor
            return None
        self.sent.add(placed.place)
        return placed


class _SlotUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, reader: BatchReader) -> None:
        super().__init__(file)
        self.reader = reader

    def persistent_load(self, placed: Any) -> Any:
        return self.reader.tensor(placed)
