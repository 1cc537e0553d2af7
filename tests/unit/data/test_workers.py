"""Worker processes: bounded, in order, with clear errors, and never outliving the main process."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from normfree.data import (
    ArraySource,
    BatchPlan,
    EvalTransform,
    TrainTransform,
    eval_batches,
    open_source,
    train_batches,
)
from normfree.data.workers import WorkerError, Workers, read_ahead
from normfree.errors import UserError


class Text(NamedTuple):
    """A result with a given size."""

    text: str
    nbytes: int = 1


class Touch:
    """Creates a file for each number it is called with."""

    def __init__(self, directory, nbytes):
        self.directory, self.nbytes = directory, nbytes

    def __call__(self, number):
        (self.directory / f"{number}").touch()
        return Text(str(number), self.nbytes)

    def called(self):
        return sorted(int(file.name) for file in self.directory.iterdir())


def process_id(number):
    return Text(str(os.getpid()))


def echo(number):
    return Text(str(number))


def slowest_first(number):
    time.sleep(0.05 * (3 - number % 4))
    return Text(str(number))


def fail(number):
    if number == 1:
        raise ZeroDivisionError("two\nlines")
    if number == 2:
        raise MemoryError
    return Text(str(number))


def leave(number):
    os._exit(3)


def hang(number):
    time.sleep(600)


def test_results_come_in_order_whoever_is_faster():
    numbers = range(5, 15)
    assert [text for text, _ in read_ahead(slowest_first, numbers, 3, 0)] == list(map(str, numbers))


def test_workers_start_once():
    ids = {text for text, _ in read_ahead(process_id, range(40), 2, 1 << 30)}
    assert len(ids) == 2
    assert str(os.getpid()) not in ids


@pytest.mark.parametrize(
    ("nbytes", "prefetch", "ahead"),
    [
        (10, 45, 4),  # as many as fit in the budget
        (10, 5, 2),  # one per worker, even beyond the budget
        (1, 1 << 30, 16),  # at most eight per worker
    ],
)
def test_what_is_read_ahead_is_bounded_in_bytes(tmp_path, nbytes, prefetch, ahead):
    touch = Touch(tmp_path, nbytes)
    results = read_ahead(touch, range(100), 2, prefetch)
    next(results)  # the size of a result is known from here on
    deadline = time.monotonic() + 60
    while len(touch.called()) < 1 + ahead and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert touch.called() == list(range(1 + ahead))
    for _ in range(10):
        next(results)
    time.sleep(0.2)
    assert max(touch.called()) <= 10 + ahead
    results.close()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (1, "a reading worker failed: ZeroDivisionError: two lines; --workers 0 shows where"),
        (2, "a reading worker ran out of memory; lower --workers, or raise --accumulate"),
    ],
)
def test_whatever_a_worker_raises_arrives_as_one_line(number, message):
    with pytest.raises(UserError) as caught:
        list(read_ahead(fail, [0, number], 1, 0))
    assert str(caught.value) == message


class Exhausted(ArraySource):
    def image(self, index):
        raise MemoryError


def broken(image, rng):
    raise ValueError("no such\nthing")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_source_or_a_transform_raises_names_the_image(workers):
    pixels = np.zeros((8, 2, 2, 1), np.uint8)
    plan = BatchPlan(seed=0, examples=8, batch_size=8)
    for kind, said in ((Exhausted, "ran out of memory"), (ArraySource, "failed: ValueError: no ")):
        source = kind("eight", pixels, np.zeros(8, np.int64), ("a", "b"))
        with pytest.raises(UserError, match=rf"eight\[\d\] {said}") as caught:
            next(train_batches(source, broken, plan, start=0, stop=1, workers=workers))
        assert "\n" not in str(caught.value)


def test_a_transform_that_cannot_be_sent_is_named():
    source = open_source("synthetic:8x4x1x2", "train")
    plan = BatchPlan(seed=0, examples=8, batch_size=8)
    with pytest.raises(UserError, match=r"cannot be sent to worker processes.*top level"):
        next(train_batches(source, lambda image, rng: image, plan, start=0, stop=1, workers=1))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGBUS])
def test_a_killed_worker_is_replaced_once_and_nothing_is_lost(sent):
    said = []
    with closing(Workers(2, say=said.append)) as workers:
        results = workers.map(process_id, range(200), 1 << 30)
        first = next(results).text
        os.kill(int(first), sent)
        rest = [text for text, _ in results]
    assert len(rest) == 199
    assert len({first, *rest}) == 3
    (message,) = said
    assert re.search(rf"worker [12] of 2 was killed by {sent.name}, .*; it was replaced", message)
    assert not multiprocessing.active_children()


def test_a_second_killed_worker_is_an_error_that_names_it_and_no_hang():
    said = []
    with closing(Workers(2, say=said.append)) as workers:
        results = workers.map(process_id, range(100_000), 1 << 30)
        os.kill(int(next(results).text), signal.SIGKILL)
        while not said:
            next(results)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"was killed by SIGKILL.*second.*--resume"):
            list(results)
    assert not multiprocessing.active_children()


def die_of(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return Text(str(number))


def test_a_number_that_kills_every_worker_ends_the_iteration():
    results = read_ahead(die_of, range(10), 1, 0)
    with pytest.warns(RuntimeWarning, match="it was replaced, and 1 unfinished"):  # noqa: PT031
        assert [next(results).text for _ in range(5)] == list("01234")
        with pytest.raises(WorkerError, match="the second one that was killed"):
            next(results)


class DyingOnce(TrainTransform):
    """Kills its own process in the middle of a batch, the fifth time that it is called."""

    mark: Path
    calls = 0

    def view(self, height, width, rng):
        type(self).calls += 1
        if type(self).calls == 5:
            with suppress(FileExistsError):  # the other worker was here
                self.mark.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().view(height, width, rng)


def test_a_killed_worker_does_not_change_a_bit_of_the_batches(folder):
    source = open_source(f"folder:{folder}", "train")
    plan = BatchPlan(seed=3, examples=len(source), batch_size=4, mixing="mixup")
    steps = {"start": 0, "stop": 12}
    alone = [b.images.clone() for b in train_batches(source, TrainTransform(16), plan, **steps)]
    dying, said = DyingOnce(16), []
    object.__setattr__(dying, "mark", folder / "died")
    with closing(Workers(2, say=said.append)) as workers:
        batches = train_batches(source, dying, plan, **steps, workers=workers)
        found = [batch.images.clone() for batch in batches]
    assert len(said) == 1
    assert len(found) == 12
    assert all(map(torch.equal, found, alone))


def test_one_pool_reads_for_training_and_evaluation_at_once(folder):
    train, val = (open_source(f"folder:{folder}", split) for split in ("train", "val"))
    plan = BatchPlan(seed=3, examples=len(train), batch_size=4)
    transform, steps = TrainTransform(16), {"start": 0, "stop": 6}
    alone = [b.images.clone() for b in train_batches(train, transform, plan, **steps)]
    with closing(Workers(2)) as workers:
        batches = train_batches(train, transform, plan, **steps, workers=workers)
        found = [next(batches).images.clone()]
        children = {child.pid for child in multiprocessing.active_children()}
        for _ in range(2):
            seen = list(eval_batches(val, EvalTransform(16), 3, workers=workers))
            assert sum(len(batch.labels) for batch in seen) == len(val)
        found += [batch.images.clone() for batch in batches]
        assert {child.pid for child in multiprocessing.active_children()} >= children
        assert len(children) <= 2
        assert len(multiprocessing.active_children()) <= 2
    assert all(map(torch.equal, found, alone))


def test_a_job_that_is_left_early_does_not_disturb_the_next():
    with closing(Workers(2)) as workers:
        for _ in range(3):
            numbers = workers.map(slowest_first, range(100), 1 << 30)
            assert next(numbers).text == "0"
            numbers.close()
        assert [text for text, _ in workers.map(echo, range(7), 0)] == list("0123456")


def test_closed_workers_are_refused():
    workers = Workers(1)
    workers.close()
    with pytest.raises(ValueError, match="closed"):
        next(workers.map(echo, range(2), 0))
    with pytest.raises(ValueError, match="at least one"):
        Workers(0)


def test_a_worker_that_leaves_is_an_error_too():
    with pytest.raises(WorkerError, match=r"reading worker 1 of 1 ended with exit code 3"):
        list(read_ahead(leave, range(2), 1, 0))


def test_a_job_that_is_asked_to_stop_goes_on_reading_until_the_main_process_has_stopped():
    results = read_ahead(process_id, range(50), 1, 0)
    worker = int(next(results).text)
    for sent in (signal.SIGTERM, signal.SIGINT):
        os.kill(worker, sent)
    assert {int(text) for text, _ in results} == {worker}


def test_a_consumer_that_stops_does_not_wait_for_what_is_being_read():
    results = read_ahead(hang_after_the_first, range(10), 1, 0)
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 5
    assert not multiprocessing.active_children()


def hang_after_the_first(number):
    return Text("first") if number == 0 else hang(number)


def test_large_arrays_are_there_once_for_all_workers():
    source = open_source("synthetic:64x64x3x2", "train")
    plan = BatchPlan(seed=0, examples=64, batch_size=2)
    batches = train_batches(source, shared_memory_of, plan, start=0, stop=4, workers=2)
    regions = {tuple(batch.images.flatten().tolist()) for batch in batches}
    assert len(regions) == 1


def shared_memory_of(image, rng):
    """The inode of the file that holds the source's pixels, as an image."""
    address = image.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= address < last:
            return np.array([int(line.split()[4])], np.int64).view(np.uint8).reshape(2, 4, 1)
    raise AssertionError


MAIN = """
from tests.unit.data.test_workers import hang_after_the_first
from normfree.data.workers import read_ahead

if __name__ == "__main__":
    results = read_ahead(hang_after_the_first, range(100), 2, 0)
    next(results)
    {use}
"""


def processes_of(group):
    """Processes with the mark in their environment, which children inherit."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if group.encode() in (directory / "environ").read_bytes():
                found.append(int(directory.name))
        except OSError:
            continue
    return found


@contextmanager
def started(use, tmp_path):
    """A main process whose two workers hang after the first number, and their common mark."""
    script = tmp_path / "script.py"
    script.write_text(MAIN.format(use=use))
    mark = {"NORMFREE_TEST": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, env=os.environ | mark, text=True
    ) as process:
        yield process, f"NORMFREE_TEST={tmp_path}"


def test_a_killed_main_process_takes_all_others_with_it(tmp_path):
    with started("print('ready', flush=True); next(results)", tmp_path) as (process, mark):
        assert process.stdout.readline() == "ready\n"
        assert len(processes_of(mark)) >= 4  # main process, two workers, fork server
        process.kill()
        began = time.monotonic()
        while (left := processes_of(mark)) and time.monotonic() - began < 30:
            time.sleep(0.05)
        for number in left:
            os.kill(number, signal.SIGKILL)
        assert left == []
        assert process.stdout.read() == ""  # no process holds the pipe anymore


def test_a_main_process_that_ends_without_closing_does_not_hang(tmp_path):
    with started("print('ready')", tmp_path) as (process, mark):
        out, _ = process.communicate(timeout=60)
        assert (out, process.returncode) == ("ready\n", 0)
        assert processes_of(mark) == []
