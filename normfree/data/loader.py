"""Load micro-batches, bit-identical for any number of workers and any first step.

All randomness of an example is a function of (seed, epoch, index), see :mod:`normfree.random`. The
contents of a micro-batch are a function of its number, see :mod:`normfree.data.plan`. A worker
therefore receives nothing but micro-batch numbers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import torch

from normfree.data.bad_images import BadImages
from normfree.data.batch import Batch, MicroBatch
from normfree.data.eval_plan import EvalPlan
from normfree.data.plan import BatchPlan
from normfree.data.reader import Read, Reader
from normfree.data.sources.registry import OnBadImage
from normfree.data.sources.source import Source
from normfree.data.transforms import Transform
from normfree.data.workers import Workers, read_ahead
from normfree.errors import UserError

PREFETCH_BYTES = 1 << 30
"""Default bound on prefetched images over all workers, 1 GiB."""


def train_batches(
    source: Source,
    transform: Transform | None,
    plan: BatchPlan,
    *,
    start: int,
    stop: int,
    rank: int = 0,
    workers: int | Workers = 0,
    prefetch_bytes: int = PREFETCH_BYTES,
    on_bad_image: OnBadImage = "error",
    bad_images: BadImages | None = None,
) -> Iterator[MicroBatch]:
    """Iterate over the micro-batches of steps ``start`` to ``stop − 1``.

    There are ``plan.accumulate`` micro-batches per step. Images remain uint8 without a transform,
    or with a transform that returns uint8; they then take a quarter of the memory and of the
    transfer between processes.

    Worker processes are not forked from this one, so ``transform`` and ``source`` must be
    picklable, and a script that uses workers needs ``if __name__ == "__main__":``. Workers stop
    when the iterator is exhausted or closed, and when this process ends for any reason. One that a
    signal kills is replaced once. The memory of a batch is used again when it and its views are
    dropped. Prefetched
    images take at most ``max(prefetch_bytes, workers · bytes per micro-batch)``: with large
    batches, raise ``accumulate`` or lower ``workers`` to save memory.

    Args:
        source: the images.
        transform: applied to each image; None keeps images as stored.
        plan: assigns examples to micro-batches.
        start: first step.
        stop: one past the last step.
        rank: rank of this process, below ``plan.world``.
        workers: number of worker processes; 0 reads in this process. Or processes that were started
            before, which may read for several iterators and outlive them. Images that are in memory
            and need no transform are always read in this process, which is faster than sending
            them.
        prefetch_bytes: bound on prefetched images over all workers; each worker may always hold
            one micro-batch.
        on_bad_image: ``error`` raises if an image cannot be read; ``skip`` logs it and substitutes
            the epoch's next readable example, with the random numbers of the original.
        bad_images: the log to add to; required for ``skip``.

    Raises:
        BadImageError: an image cannot be read; the message names the file.
        TooManyBadImagesError: more images cannot be read than ``bad_images`` allows.
        UserError: no image can be read, images in a micro-batch differ in size, a transform
            fails, or a second worker was killed.

    >>> from normfree.data.sources import open_source
    >>> source = open_source("digits", "train")
    >>> plan = BatchPlan(seed=0, examples=len(source), batch_size=64, mixing="mixup")
    >>> batch = next(train_batches(source, None, plan, start=0, stop=10))
    >>> batch.size, batch.images.shape, batch.images.dtype
    (64, torch.Size([128, 1, 8, 8]), torch.uint8)

    Differs from: nothing, with :class:`~normfree.data.transforms.TrainTransform`: as in the
        authors' pipeline, float crops are mixed first, and only the mixture is clipped and
        truncated to integers. A transform that returns uint8 differs: it rounds and clips the
        bicubic crops before mixing. The mixture is then off by at most one gray level, plus the
        clipped overshoot.
    """
    reader = Reader(source, transform, plan, rank, skip=on_bad_image == "skip")
    numbers = range(start * plan.accumulate, stop * plan.accumulate)
    return _batches(reader, numbers, workers, prefetch_bytes, bad_images)


def eval_batches(
    source: Source,
    transform: Transform | None,
    batch_size: int,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int | Workers = 0,
    prefetch_bytes: int = PREFETCH_BYTES,
    on_bad_image: OnBadImage = "error",
    bad_images: BadImages | None = None,
) -> Iterator[Batch]:
    """Iterate over every example once, in source order; the last batch may be smaller.

    Over all ranks, every example comes once; a rank may have one batch more than another.

    Args:
        source: the images.
        transform: applied to each image, without a generator; None keeps images as stored.
        batch_size: examples per batch.
        rank: rank of this process, which gets every ``world``-th batch.
        world: number of processes.
        workers: see :func:`train_batches`.
        prefetch_bytes: see :func:`train_batches`.
        on_bad_image: ``error`` raises if an image cannot be read; ``skip`` leaves it out.
        bad_images: the log to add to; required for ``skip``.

    Raises:
        BadImageError: an image cannot be read; the message names the file.
        UserError: see :func:`train_batches`.

    >>> from normfree.data.sources import open_source
    >>> sum(len(batch.labels) for batch in eval_batches(open_source("digits", "val"), None, 100))
    355
    """
    plan = EvalPlan(examples=len(source), batch_size=batch_size, world=world)
    reader = Reader(source, transform, plan, rank, skip=on_bad_image == "skip")
    batches = _batches(reader, range(plan.batches_of(rank)), workers, prefetch_bytes, bad_images)
    return (Batch(batch.images, batch.labels, batch.keys) for batch in batches)


def _batches(
    reader: Reader,
    numbers: Sequence[int],
    workers: int | Workers,
    prefetch_bytes: int,
    bad_images: BadImages | None,
) -> Iterator[MicroBatch]:
    """Check the arguments eagerly, then read lazily."""
    if reader.skip and bad_images is None:
        raise ValueError("on_bad_image='skip' needs a log: pass bad_images=BadImages()")
    reads = _reads(reader, numbers, workers, prefetch_bytes)
    return _deliver(reader, numbers, reads, BadImages() if bad_images is None else bad_images)


def _reads(
    reader: Reader, numbers: Sequence[int], workers: int | Workers, prefetch_bytes: int
) -> Generator[Read, None, None]:
    if workers == 0 or len(numbers) == 0 or reader.memory is not None:
        yield from map(reader, numbers)
    elif isinstance(workers, Workers):
        yield from workers.map(reader, numbers, prefetch_bytes)
    else:
        yield from read_ahead(reader, numbers, workers, prefetch_bytes)


def _deliver(
    reader: Reader,
    numbers: Sequence[int],
    reads: Generator[Read, None, None],
    bad_images: BadImages,
) -> Iterator[MicroBatch]:
    delivered = 0
    with closing(reads):  # stops the workers even if the consumer stops early
        for number in numbers:
            read = next(reads)
            for error in read.bad:
                bad_images.add(error)
            if len(read.rows):
                delivered += 1
                micro_batch = _micro_batch(reader, number, read)
                del read  # its memory is used again once the consumer has dropped the images
                yield micro_batch
                del micro_batch
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
        others=plan.others,
    )
