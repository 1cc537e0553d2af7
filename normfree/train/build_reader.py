"""From a resolved recipe to what reads its images: plan, transforms, workers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial

from normfree.data import (
    ArraySource,
    Ascent,
    BadImages,
    Batch,
    BatchPlan,
    EvalTransform,
    MicroBatch,
    Order,
    Source,
    TrainTransform,
    Transform,
    Workers,
    eval_batches,
    train_batches,
)
from normfree.train.caching import cached
from normfree.train.components import CropFlip
from normfree.train.order import build_order
from normfree.train.resolve import Resolved
from normfree.train.run import Reader
from normfree.train.runtime import Runtime
from normfree.train.sources import Sources


def build_plan(resolved: Resolved, world: int = 1, order: Order | None = None) -> BatchPlan:
    """Which examples each micro-batch of each of ``world`` ranks holds, in an order."""
    recipe, mixing = resolved.recipe, resolved.recipe.augment.mixing
    sam = recipe.sam
    return BatchPlan(
        seed=recipe.seed,
        examples=resolved.train_images,
        batch_size=recipe.batch.size,
        mixing="none" if mixing is None else mixing.kind,
        pairing="two_batches" if mixing is None else mixing.pairing,
        accumulate=recipe.batch.accumulate,
        world=world,
        ascent=None if sam is None else Ascent(fraction=sam.fraction, scope=sam.scope),
        order=order,
    )


def build_reader(resolved: Resolved, sources: Sources, runtime: Runtime | None = None) -> Reader:
    """What reads the images of this rank."""
    data = resolved.recipe.data
    rank, world = (0, 1) if runtime is None else (runtime.rank, runtime.world)
    plan = build_plan(resolved, world, build_order(data, sources.train))
    images = sum(len(source) for source in sources if source is not None)
    bad_images = BadImages(most=int(data.max_bad_fraction * images))
    sources, notes = cached(sources, data)
    workers = Workers(data.workers) if data.workers else None
    reading = {
        "workers": workers or 0,
        "on_bad_image": data.on_bad_image,
        "bad_images": bad_images,
    }

    def train(first: int) -> Generator[MicroBatch, None, None]:
        transform = train_transform(resolved, sources.train)
        stop = resolved.total_steps
        yield from train_batches(
            sources.train,
            transform,
            plan,
            start=first,
            stop=stop,
            rank=rank,
            **reading,  # type: ignore[arg-type]
        )

    def evaluation(source: Source) -> Callable[[], Iterator[Batch]]:
        transform = eval_transform(resolved, source)
        size = resolved.recipe.batch.micro  # as large as the network is given in training
        part = {"rank": rank, "world": world}
        return partial(eval_batches, source, transform, size, **part, **reading)  # type: ignore[arg-type]

    return Reader(
        train=train,
        val=evaluation(sources.val),
        test=None if sources.test is None else evaluation(sources.test),
        bad_images=bad_images,
        workers=workers,
        notes=tuple(notes),
    )


def train_transform(resolved: Resolved, source: Source) -> Transform | None:
    """What the loader does to a training image: random crops of photographs, else resizing."""
    geometry, data = resolved.recipe.augment.geometry, resolved.recipe.data
    if isinstance(geometry, CropFlip):
        return TrainTransform(
            resolved.train_size, crop=geometry.crop, resize=data.resize, dtype=data.image_dtype
        )
    transform = EvalTransform(
        resolved.train_size, margin=0, resize=data.resize, dtype=data.image_dtype
    )
    return _fitting(source, transform)


def eval_transform(resolved: Resolved, source: Source) -> Transform | None:
    """What the loader does to an image to evaluate on; None where it has the right size."""
    data = resolved.recipe.data
    transform = EvalTransform(
        resolved.test_size,
        resolved.test_margin,
        keep_aspect=data.test_crop == "crop_resize",
        resize=data.resize,
        dtype=data.image_dtype,
    )
    return _fitting(source, transform)


def _fitting(source: Source, transform: EvalTransform) -> Transform | None:
    """The transform, unless it would leave every image as it is."""
    size = (transform.size, transform.size)
    fits = isinstance(source, ArraySource) and source.pixels.shape[1:3] == size
    return None if fits and transform.margin == 0 else transform
