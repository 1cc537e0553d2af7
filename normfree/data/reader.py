"""Read a micro-batch given its number. This object is what worker processes receive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from normfree import kernels
from normfree.data.eval_plan import EvalPlan
from normfree.data.micro_batch_plan import MicroBatchPlan
from normfree.data.order import epoch_order
from normfree.data.plan import BatchPlan
from normfree.data.ring import allocate
from normfree.data.sources.source import ArraySource, EncodedSource, Labels, Source
from normfree.data.transforms import Transform, ViewTransform
from normfree.data.view import Pixels, Regions, render
from normfree.errors import BadImageError, UserError
from normfree.random import numpy_generator

_STREAM = 1  # numpy_generator stream for the transform of one example
_REPEATED = 3  # the same, for an example that occurred before in the epoch
_CHUNK = 1024  # candidates to replace an unreadable image that are looked up at a time

Image: TypeAlias = Shaped[np.ndarray, "h w c"]


class Read(NamedTuple):
    """A micro-batch as a worker returns it.

    Attributes:
        images: the images, in shared memory if a worker read them.
        labels: class index of each image, or its classes as a multi-hot row.
        rows: rows of the plan that the images belong to; all rows, unless evaluation skips some.
        bad: one error for each failed read.
    """

    images: Shaped[Tensor, "m c h w"]
    labels: Labels
    rows: Int[np.ndarray, " m"]
    bad: list[BadImageError]

    @property
    def nbytes(self) -> int:
        """Size of the images in bytes."""
        return self.images.numel() * self.images.element_size()


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads micro-batches by number, bit-identical in every process.

    Attributes:
        source: the images.
        transform: applied to each image; None keeps images as stored.
        plan: assigns examples to micro-batches.
        rank: rank whose micro-batches are read.
        skip: whether to skip images that cannot be read.
    """

    source: Source
    transform: Transform | None
    plan: BatchPlan | EvalPlan
    rank: int = 0
    skip: bool = False
    _known_bad: dict[int, str] = field(default_factory=dict)  # index → reason; not decoded again

    @property
    def memory(self) -> ArraySource | None:
        """The source if a micro-batch is a single copy from memory, else None."""
        return (
            self.source if self.transform is None and isinstance(self.source, ArraySource) else None
        )

    def __call__(self, number: int) -> Read:
        """Read one micro-batch."""
        plan = self.plan.micro_batch(number, self.rank)
        if self.memory is not None:
            images = np.ascontiguousarray(self.memory.images(plan.indices).transpose(0, 3, 1, 2))
            every = np.arange(len(plan.indices))
            return Read(torch.from_numpy(images), self.source.labels[plan.indices], every, [])
        stack = _Stack(len(plan.indices))
        rows: list[int] = []
        read: list[int] = []
        bad: list[BadImageError] = []
        for row in range(len(plan.indices)):
            found = self._readable(plan, row, bad, stack)
            if found is not None:
                rows.append(row)
                read.append(found)
        labels = self.source.labels[np.array(read, np.int64)]
        return Read(stack.images(), labels, np.array(rows, np.int64), bad)

    def _readable(
        self, plan: MicroBatchPlan, row: int, bad: list[BadImageError], stack: _Stack
    ) -> int | None:
        """Add this example or, in training, the next readable one in the epoch's order.

        The next one in source order would not do: a whole class may be damaged.
        """
        for found in self._candidates(plan, row):
            try:
                self._add(stack, plan, row, found)
                return found
            except BadImageError as error:
                if not self.skip:
                    raise
                bad.append(error)
        if isinstance(self.plan, EvalPlan):
            return None
        raise UserError(
            f"none of the {len(self.source)} images can be read, the last one {bad[-1].name}: "
            f"{bad[-1].reason}; check the data directory"
        )

    def _candidates(self, plan: MicroBatchPlan, row: int) -> Iterator[int]:
        yield int(plan.indices[row])
        if isinstance(self.plan, BatchPlan):
            count, place = self.plan.examples, int(plan.offsets[row])
            order = epoch_order(self.plan.order, self.plan.seed, int(plan.epochs[row]), count)
            for first in range(1, count, _CHUNK):  # once around the epoch
                following = np.arange(first, min(first + _CHUNK, count))
                yield from order[(place + following) % count].tolist()

    def _add(self, stack: _Stack, plan: MicroBatchPlan, row: int, found: int) -> None:
        """Read and transform an image, with the random numbers of the row it fills."""
        name = self.source.name(found)
        if found in self._known_bad:
            raise BadImageError(name, self._known_bad[found])
        rng = None
        if isinstance(self.plan, BatchPlan):
            place = int(plan.epochs[row]), int(plan.indices[row])
            again = int(plan.repeats[row])
            stream = (_REPEATED, again) if again else (_STREAM,)
            rng = numpy_generator(self.plan.seed, *stream, *place)
        try:
            with _failures(f"reading image {name}"):
                image = self._image(found)
            with _failures(f"the transform of {name}"):
                self._transform(image, rng, stack)
        except BadImageError as error:  # parts of an encoded image are decoded when transformed
            self._known_bad[found] = error.reason
            raise

    def _image(self, index: int) -> Image | Regions:
        """The image, or where it can be decoded in parts and only a view is needed, its file."""
        return self.source.image(index) if self._encoded is None else self._encoded(index)

    @cached_property
    def _view(self) -> ViewTransform | None:
        """The transform if it is a view."""
        return self.transform if isinstance(self.transform, ViewTransform) else None

    @cached_property
    def _encoded(self) -> Callable[[int], Regions] | None:
        """Opens an image to be decoded in parts, if only a view of it is needed."""
        if self._view is not None and isinstance(self.source, EncodedSource):
            return self.source.encoded
        return None

    def _transform(
        self, image: Image | Regions, rng: np.random.Generator | None, stack: _Stack
    ) -> None:
        if self._view is not None:
            regions = Pixels(image) if isinstance(image, np.ndarray) else image
            view = self._view.view(regions.height, regions.width, rng)
            out = stack.next((*view.shape, regions.channels), np.dtype(self._view.dtype))
            render(regions, view, out)
            stack.count += 1
        else:
            assert isinstance(image, np.ndarray)
            stack.add(image if self.transform is None else self.transform(image, rng))


class _Stack:
    """Collects images of one size into a batch; the first image sets the size."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self.shape: tuple[int, ...] = ()
        self.batch = torch.empty(0, 0, 0, 0)

    def add(self, image: Image) -> None:
        self.next(image.shape, image.dtype)[...] = image.transpose(2, 0, 1)
        self.count += 1

    def next(self, shape: tuple[int, ...], dtype: np.dtype) -> Shaped[np.ndarray, "c h w"]:
        """Where the next image belongs, of this height, width and number of channels."""
        if not self.count:
            self._allocate(shape, dtype)
        if shape != self.shape:
            raise UserError(
                f"the images of a batch have different sizes, such as {self.shape} and "
                f"{shape}: use a transform that resizes them"
            )
        return self.batch.numpy()[self.count]

    def images(self) -> Shaped[Tensor, "m c h w"]:
        return self.batch[: self.count]

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape = height, width, channels = shape
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        self.batch = allocate((self.most, channels, height, width), kind)
        kernels.ask_for_huge_pages(self.batch)


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turn unforeseen errors into a single line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(_line(what, error)) from error


def _line(what: str, error: Exception) -> str:
    """The error as a single line."""
    if isinstance(error, MemoryError):
        return f"{what} ran out of memory; lower --workers, or raise --accumulate"
    said = " ".join(str(error).split())
    return f"{what} failed: {type(error).__name__}{': ' + said if said else ''}"
