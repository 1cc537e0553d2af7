"""Batches in shared memory: written once, used again, and never while somebody holds them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from normfree.data import ring
from normfree.data.ring import BatchReader, BatchWriter
from normfree.data.workers import read_ahead

KIB = 1024


@contextmanager
def pair():
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield BatchReader(ours), BatchWriter(theirs)


def sent(reader, writer, value, kib=64, dtype=torch.uint8):
    """A batch of one value, as it arrives."""
    batch = writer.empty((kib * KIB // dtype.itemsize,), dtype)
    batch.fill_(value)
    writer.send(("batch", batch))
    name, found = reader.receive()
    assert name == "batch"
    assert found.dtype == dtype
    return found


def returned(reader, writer):
    free = list(reader.free)
    reader.free.clear()
    writer.release(free)
    return len(free)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_what_is_written_arrives(dtype):
    with pair() as (reader, writer):
        found = [sent(reader, writer, value, dtype=dtype) for value in range(5)]
        assert [int(batch[0]) for batch in found] == list(range(5))
        assert all((batch == batch[0]).all() for batch in found)


def test_a_dropped_batch_s_memory_is_used_again_and_a_held_one_s_is_not():
    with pair() as (reader, writer):
        held = sent(reader, writer, 1)
        for value in range(2, 50):
            assert int(sent(reader, writer, value)[0]) == value
            assert returned(reader, writer) == 1
        assert (held == 1).all()
        part = held[3:5].view(2, 1)
        del held
        assert returned(reader, writer) == 0  # a view holds it, too
        sent(reader, writer, 99)
        assert part.tolist() == [[1], [1]]
        del part
        assert returned(reader, writer) == 2
        assert len(writer.rings) == 1
        assert len(writer.rings[1].free) == 32


def test_a_consumer_that_keeps_everything_gets_new_memory():
    with pair() as (reader, writer):
        kept = [sent(reader, writer, value) for value in range(100)]
        assert [int(batch[-1]) for batch in kept] == list(range(100))
        assert len(writer.rings) == 4
        kept.clear()
        assert returned(reader, writer) == 100
        assert len(writer.rings) == 1  # what is free is given back
        sent(reader, writer, 1)
        assert len(reader.rings) == 1


def test_a_larger_batch_gets_a_larger_place():
    with pair() as (reader, writer):
        small = sent(reader, writer, 7, kib=8)
        large = sent(reader, writer, 8, kib=800)
        again = sent(reader, writer, 9, kib=8)
        assert (int(small.sum()), int(large[-1]), int(again[-1])) == (7 * 8 * KIB, 8, 9)
        assert len(writer.rings) == 1


def test_memory_is_taken_for_used_slots_only():
    with pair() as (reader, writer):
        for value in range(30):
            sent(reader, writer, value, kib=1024)
            returned(reader, writer)
        used = 512 * os.fstat(writer.rings[1].file).st_blocks
        assert used <= 2 * 1024 * KIB


def test_a_batch_that_fails_gives_its_memory_back():
    with pair() as (reader, writer):
        for _ in range(50):
            writer.empty((64 * KIB,), torch.uint8)
            writer.send("failed")
            assert reader.receive() == "failed"
        assert len(writer.rings) == 1


def test_other_tensors_and_a_second_one_of_a_slot_are_copied():
    with pair() as (reader, writer):
        batch = writer.empty((1024,), torch.uint8).fill_(3)
        writer.send((torch.arange(3), batch[:10], batch[10:]))
        other, first, second = reader.receive()
        batch.fill_(5)
        assert other.tolist() == [0, 1, 2]
        assert set(first.tolist()) == {5}
        assert set(second.tolist()) == {3}


def test_without_a_worker_memory_is_the_process_s_own(monkeypatch):
    assert ring.allocate((2, 2), torch.float32).shape == (2, 2)
    with pair() as (_, writer):
        monkeypatch.setattr(ring, "_writer", writer)
        assert writer.find(ring.allocate((2, 2), torch.float32)) is not None
        assert writer.find(ring.allocate((0, 2), torch.float32)) is None
        assert writer.find(torch.zeros(3)) is None


class Batch:
    """A batch whose images are where the worker put them."""

    def __init__(self, images):
        self.images, self.nbytes = images, images.numel()


def allocated(number):
    return Batch(ring.allocate((200_000,), torch.uint8).fill_(number))


def test_batches_of_workers_share_a_few_places():
    places = set()
    for number, batch in enumerate(read_ahead(allocated, range(200), 2, 1 << 30)):
        assert (batch.images == number).all()
        places.add(batch.images.data_ptr())
        del batch
    assert len(places) <= 2 * 32  # and not 200


def test_batches_may_be_dropped_by_any_thread():
    found = []

    def drop(batches):
        batches.clear()

    for number, batch in enumerate(read_ahead(allocated, range(100), 1, 1 << 30)):
        assert int(np.unique(batch.images)[0]) == number
        found.append(batch)
        if len(found) == 5:
            thread = threading.Thread(target=drop, args=(found,))
            thread.start()
            thread.join()
