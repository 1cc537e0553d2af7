"""Micro-batches: the same bits for any number of workers and from any first step.

Everything random about an example follows from (seed, epoch, index), see :mod:`normfree.random`,
and what a micro-batch holds from its number, see :mod:`normfree.data.plan`. So that number is all
that a worker is sent.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch

from normfree.data.batch import Batch, MicroBatch
from normfree.data.plan import BatchPlan, EvalPlan
from normfree.data.reader import Read, Reader, for_workers
from normfree.data.sources.source import Source
from normfree.data.transforms import Transform
from normfree.data.workers import read_ahead
from normfree.errors import BadImageError, UserError

OnBadImage: TypeAlias = Literal["error", "skip"]

PREFETCH_BYTES = 1 << 30
"""How much is read ahead, over all workers, unless said otherwise: 1 GiB."""


@dataclass
class BadImages:
    """A log of the images that could not be read.

    Attributes:
        reasons: file → what was wrong, in the order in which they were met.
        times: how often a micro-batch had to do without one; an image counts again in each epoch.

    >>> log = BadImages()
    >>> log.add(BadImageError("cat/7.jpg", "the file is empty"))
    >>> log.count, log.names
    (1, ('cat/7.jpg',))
    """

    reasons: dict[str, str] = field(default_factory=dict)
    times: int = 0

    def add(self, error: BadImageError) -> None:
        """Note an image."""
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
    plan: BatchPlan,
    *,
    start: int,
    stop: int,
    rank: int = 0,
    workers: int = 0,
    prefetch_bytes: int = PREFETCH_BYTES,
    on_bad_image: OnBadImage = "error",
    bad_images: BadImages | None = None,
) -> Iterator[MicroBatch]:
    """The micro-batches of steps ``start`` to ``stop − 1``, ``plan.accumulate`` for each step.

    Images stay bytes where nothing is lost by it: without a transform, or with one that yields
    bytes. Then they take a quarter of the memory and of the way between processes.

    Worker processes start from a clean process, so ``transform`` and ``source`` must be picklable,
    and a script that uses them needs ``if __name__ == "__main__":``. They end when the iterator is
    exhausted or closed, and when this process ends in whatever way. Images read ahead take
    ``max(prefetch_bytes, workers · bytes of a micro-batch)`` at most: with large batches, raise
    ``accumulate`` or lower ``workers`` to save memory.

    Args:
        source: the images.
        transform: what to make of each image; None takes them as they are stored.
        plan: which examples a micro-batch has.
        start: first step.
        stop: step after the last.
        rank: this process, of ``plan.world``.
        workers: processes that read ahead; 0 reads in this one. Images that lie in memory and
            need no transform are always read in this one: that is faster than sending them.
        prefetch_bytes: how much is read ahead, over all workers; each has at least one micro-batch
            to read.
        on_bad_image: ``error`` raises at an image that cannot be read; ``skip`` puts the epoch's
            next readable example in its place (with the randomness of the place) and logs it.
        bad_images: the log to add to; needed for ``skip``.

    Raises:
        BadImageError: names the file that cannot be read.
        UserError: nothing can be read, images of different sizes meet in one micro-batch, a
            transform fails, or a worker was killed.

    >>> from normfree.data.sources import open_source
    >>> source = open_source("digits", "train")
    >>> plan = BatchPlan(seed=0, examples=len(source), batch_size=64, mixing="mixup")
    >>> batch = next(train_batches(source, None, plan, start=0, stop=10))
    >>> batch.size, batch.images.shape, batch.images.dtype
    (64, torch.Size([128, 1, 8, 8]), torch.uint8)

    Differs from: the authors' input pipeline in nothing with
        :class:`~normfree.data.transforms.TrainTransform`, whose floats are mixed as they are. A
        transform that rounds to bytes leaves them: their bicubic crops have fractions and may pass
        0 and 255, and only the mixture is clipped and cut off to whole grey levels. Rounded before
        mixing, a mixture is off by at most one grey level, and by what the rounding clips.
    """
    reader = Reader(source, transform, plan, rank, skip=on_bad_image == "skip")
    numbers = range(start * plan.accumulate, stop * plan.accumulate)
    return _batches(reader, numbers, workers, prefetch_bytes, bad_images)


def eval_batches(
    source: Source,
    transform: Transform | None,
    batch_size: int,
    *,
    workers: int = 0,
    prefetch_bytes: int = PREFETCH_BYTES,
    on_bad_image: OnBadImage = "error",
    bad_images: BadImages | None = None,
) -> Iterator[Batch]:
    """Every example once, in the order of the source; the last batch may be short.

    Args:
        source: the images.
        transform: what to make of each image (it gets no generator); None takes them as stored.
        batch_size: examples of a batch.
        workers: see :func:`train_batches`.
        prefetch_bytes: see :func:`train_batches`.
        on_bad_image: ``error`` raises at an image that cannot be read; ``skip`` leaves it out.
        bad_images: the log to add to; needed for ``skip``.

    Raises:
        BadImageError: names the file that cannot be read.
        UserError: see :func:`train_batches`.

    >>> from normfree.data.sources import open_source
    >>> sum(len(batch.labels) for batch in eval_batches(open_source("digits", "val"), None, 100))
    355
    """
    plan = EvalPlan(examples=len(source), batch_size=batch_size)
    reader = Reader(source, transform, plan, skip=on_bad_image == "skip")
    batches = _batches(reader, range(plan.batches), workers, prefetch_bytes, bad_images)
    return (Batch(batch.images, batch.labels, batch.keys) for batch in batches)


def _batches(
    reader: Reader,
    numbers: Sequence[int],
    workers: int,
    prefetch_bytes: int,
    bad_images: BadImages | None,
) -> Iterator[MicroBatch]:
    """Check at once, then read lazily."""
    if reader.skip and bad_images is None:
        raise ValueError("on_bad_image='skip' needs a log: pass bad_images=BadImages()")
    reads = _reads(reader, numbers, workers, prefetch_bytes)
    return _deliver(reader, numbers, reads, BadImages() if bad_images is None else bad_images)


def _reads(
    reader: Reader, numbers: Sequence[int], workers: int, prefetch_bytes: int
) -> Generator[Read, None, None]:
    if workers == 0 or len(numbers) == 0 or reader.memory is not None:
        yield from map(reader, numbers)
    else:
        yield from read_ahead(for_workers(reader), numbers, workers, prefetch_bytes)


def _deliver(
    reader: Reader,
    numbers: Sequence[int],
    reads: Generator[Read, None, None],
    bad_images: BadImages,
) -> Iterator[MicroBatch]:
    delivered = 0
    with closing(reads):  # ends the workers, also when the consumer stops early
        for number, read in zip(numbers, reads, strict=True):
            for error in read.bad:
                bad_images.add(error)
            if len(read.rows):
                delivered += 1
                yield _micro_batch(reader, number, read)
    if len(numbers) and not delivered:
        raise UserError(f"none of the {bad_images.count} images can be read")


def _micro_batch(reader: Reader, number: int, read: Read) -> MicroBatch:
    plan = reader.plan.micro_batch(number, reader.rank)
    return MicroBatch(
        images=read.images,
        labels=torch.from_numpy(read.labels),
        keys=torch.from_numpy(plan.keys[read.rows]),
        partners=None if plan.partners is None else torch.from_numpy(plan.partners),
        cutmix=torch.from_numpy(plan.cutmix),
        ascent=torch.from_numpy(plan.ascent),
    )
