"""Batches: the same bits for any number of workers and from any first step.

Everything random about an example follows from (seed, epoch, index), see :mod:`normfree.random`, so
a worker needs to be told nothing but the number of the step it is to read.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from normfree.data.order import InOrder, Order, permutation
from normfree.data.sources.source import ArraySource, Source
from normfree.data.transforms import Transform
from normfree.errors import BadImageError, UserError
from normfree.random import example_keys, numpy_generator

OnBadImage: TypeAlias = Literal["error", "skip"]

_STREAM = 1  # of numpy_generator: what a transform draws for one example


class Batch(NamedTuple):
    """What a step works on.

    Attributes:
        images: bytes as stored, or floats, 0 to 255, from a transform.
        labels: class of each example, int64.
        keys: ``example_keys(seed, epoch, index)`` of each example, int64.
    """

    images: Shaped[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    keys: Int[Tensor, " n"]


@dataclass
class BadImages:
    """A log of the images that could not be read.

    Attributes:
        reasons: file → what was wrong, in the order in which they were met.
        times: how often a batch had to do without one; a image counts again in each epoch.

    >>> log = BadImages()
    >>> log.add(BadImageError("cat/7.jpg", "the file is empty"))
    >>> log.count, log.names
    (1, ('cat/7.jpg',))
    """

    reasons: dict[str, str] = field(default_factory=dict)
    times: int = 0

    def add(self, error: BadImageError) -> None:
        """Note a image."""
        self.reasons[error.name] = error.reason
        self.times += 1

    @property
    def names(self) -> tuple[str, ...]:
        """The images, each once."""
        return tuple(self.reasons)

    @property
    def count(self) -> int:
        """How many different images there are."""
        return len(self.reasons)


def train_batches(
    source: Source,
    transform: Transform | None,
    order: Order,
    *,
    start: int,
    stop: int,
    workers: int = 0,
    on_bad_image: OnBadImage = "error",
    bad_images: BadImages | None = None,
) -> Iterator[Batch]:
    """The batches of steps ``start`` to ``stop − 1``.

    Worker processes are started afresh (not forked from this one, whose threads they would
    inherit half-dead), so ``transform`` and ``source`` must be picklable, and a script that uses
    them needs ``if __name__ == "__main__":``. They end when the iterator is exhausted or closed.

    Args:
        source: the images.
        transform: what to make of each image; None takes them as they are stored.
        order: which examples a step has.
        start: first step.
        stop: step after the last.
        workers: processes that read ahead; 0 reads in this one. Images that lie in memory and
            need no transform are always read in this one: that is faster than sending them.
        on_bad_image: ``error`` raises at a image that cannot be read; ``skip`` puts the epoch's
            next readable example in its place (with the randomness of the place) and logs it.
        bad_images: the log to add to; needed for ``skip``.

    Raises:
        BadImageError: names the file that cannot be read.
        UserError: if nothing can be read, or images of different sizes meet in one batch.

    >>> from normfree.data.sources import open_source
    >>> source = open_source("digits", "train")
    >>> order = Order(seed=0, examples=len(source), batch_size=64)
    >>> batch = next(train_batches(source, None, order, start=0, stop=10))
    >>> batch.images.shape, batch.images.dtype
    (torch.Size([64, 1, 8, 8]), torch.uint8)
    """
    reader = _Reader(source, transform, order, training=True, skip=on_bad_image == "skip")
    return _batches(reader, range(start, stop), workers, bad_images)


def eval_batches(
    source: Source,
    transform: Transform | None,
    batch_size: int,
    *,
    workers: int = 0,
    on_bad_image: OnBadImage = "error",
    bad_images: BadImages | None = None,
) -> Iterator[Batch]:
    """Every example once, in the order of the source; the last batch may be short.

    Args:
        source: the images.
        transform: what to make of each image (it gets no generator); None takes them as stored.
        batch_size: examples of a batch.
        workers: see :func:`train_batches`.
        on_bad_image: ``error`` raises at a image that cannot be read; ``skip`` leaves it out.
        bad_images: the log to add to; needed for ``skip``.

    Raises:
        BadImageError: names the file that cannot be read.
        UserError: if nothing can be read, or images of different sizes meet in one batch.

    >>> from normfree.data.sources import open_source
    >>> sum(len(batch.labels) for batch in eval_batches(open_source("digits", "val"), None, 100))
    355
    """
    order = InOrder(examples=len(source), batch_size=batch_size)
    reader = _Reader(source, transform, order, training=False, skip=on_bad_image == "skip")
    return _batches(reader, range(order.steps), workers, bad_images)


class _Read(NamedTuple):
    """A batch on its way from a worker: labels and keys as arrays, which travel by value."""

    images: Shaped[Tensor, "n c h w"]
    labels: Int[np.ndarray, " n"]
    keys: Int[np.ndarray, " n"]
    bad: list[BadImageError]


@dataclass(frozen=True, eq=False)
class _Reader(Dataset[_Read | UserError]):
    """Step → batch; all that a worker process knows."""

    source: Source
    transform: Transform | None
    order: Order | InOrder
    training: bool
    skip: bool
    known_bad: dict[int, str] = field(default_factory=dict)  # and why: not to be decoded again

    @property
    def memory(self) -> ArraySource | None:
        """The source, if a batch is no more than one copy from memory."""
        return (
            self.source if self.transform is None and isinstance(self.source, ArraySource) else None
        )

    def __getitem__(self, step: int) -> _Read | UserError:
        try:
            return self._read(step)
        except UserError as error:  # a value: torch would wrap what a worker raises
            return error

    def _read(self, step: int) -> _Read:
        epochs, indices = self.order.batch(step)
        keys = example_keys(self.order.seed, epochs, indices)
        if self.memory is not None:
            images = np.ascontiguousarray(self.memory.images(indices).transpose(0, 3, 1, 2))
            return _Read(torch.from_numpy(images), self.source.labels[indices], keys, [])
        bad: list[BadImageError] = []
        transformed: list[np.ndarray] = []
        labels: list[int] = []
        kept: list[int] = []  # the places of the batch that a image was found for
        for place, index in enumerate(indices.tolist()):
            found, image = self._readable(int(epochs[place]), index, bad)
            if image is not None:
                transformed.append(self._transformed(image, int(epochs[place]), index))
                labels.append(int(self.source.labels[found]))
                kept.append(place)
        return _Read(_stack(transformed), np.array(labels, dtype=np.int64), keys[kept], bad)

    def _readable(
        self, epoch: int, index: int, bad: list[BadImageError]
    ) -> tuple[int, UInt8[np.ndarray, "h w c"] | None]:
        """This example, or when training the first readable one after it in the epoch's order.

        Not after it in the source's order: there the whole class may be damaged.
        """
        for found in self._candidates(epoch, index):
            try:
                return found, self._image(found)
            except BadImageError as error:
                if not self.skip:
                    raise
                bad.append(error)
        if not self.training:
            return index, None
        raise UserError(
            f"none of the {len(self.source)} images can be read, the last one {bad[-1].name}: "
            f"{bad[-1].reason}; is the data where it should be?"
        )

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        yield index
        if self.training:
            order = permutation(self.order.seed, epoch, self.order.examples)
            place = int(np.flatnonzero(order == index)[0])
            for step in range(1, len(order)):  # a lap
                yield int(order[(place + step) % len(order)])

    def _image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        if index in self.known_bad:
            raise BadImageError(self.source.name(index), self.known_bad[index])
        try:
            return self.source.image(index)
        except BadImageError as error:
            self.known_bad[index] = error.reason
            raise

    def _transformed(self, image: UInt8[np.ndarray, "h w c"], epoch: int, index: int) -> np.ndarray:
        if self.transform is None:
            return image
        rng = numpy_generator(self.order.seed, _STREAM, epoch, index) if self.training else None
        return self.transform(image, rng)


def _batches(
    reader: _Reader, steps: range, workers: int, bad_images: BadImages | None
) -> Iterator[Batch]:
    """Check at once, then read lazily."""
    if reader.skip and bad_images is None:
        raise ValueError("on_bad_image='skip' needs a log: pass bad_images=BadImages()")
    return _deliver(reader, steps, workers, BadImages() if bad_images is None else bad_images)


def _deliver(reader: _Reader, steps: range, workers: int, bad_images: BadImages) -> Iterator[Batch]:
    reads = _start_reading(reader, steps, workers)
    delivered = 0
    try:
        for read in reads:
            if isinstance(read, UserError):
                raise read
            for error in read.bad:
                bad_images.add(error)
            if len(read.labels):
                delivered += 1
                yield Batch(read.images, torch.from_numpy(read.labels), torch.from_numpy(read.keys))
    finally:
        del reads  # ends the workers, also when the consumer stops early
    if len(steps) and not delivered:
        raise UserError(f"none of the {bad_images.count} images can be read")


def _start_reading(reader: _Reader, steps: range, workers: int) -> Iterator[_Read | UserError]:
    if workers == 0 or reader.memory is not None:
        return map(reader.__getitem__, steps)
    loader = DataLoader(
        reader,
        sampler=steps,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_interrupts_to_the_main_process,
        multiprocessing_context=_process_context(),
        generator=torch.Generator(),  # otherwise a number is drawn from torch's global generator
    )
    return iter(loader)


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; the main one decides when reading ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _process_context() -> BaseContext:
    """How workers start: from a clean process that has imported this file already, if possible."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _as_it_is(read: Any) -> Any:
    return read


def _stack(images: list[np.ndarray]) -> Shaped[Tensor, "n c h w"]:
    if not images:
        return torch.empty(0, 0, 0, 0)
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise UserError(
            f"images of different sizes meet in a batch, {shapes[0]} and {shapes[-1]} for "
            "example: use a transform that resizes them"
        )
    height, width, channels = images[0].shape
    batch = np.empty((len(images), channels, height, width), dtype=images[0].dtype)
    for place, image in enumerate(images):
        batch[place] = image.transpose(2, 0, 1)
    return torch.from_numpy(batch)
