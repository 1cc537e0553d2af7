"""Read a micro-batch given its number. This object is what worker processes receive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from normfree.data.order import epoch_order
from normfree.data.plan import BatchPlan, EvalPlan, MicroBatchPlan
from normfree.data.ring import allocate
from normfree.data.sources.source import ArraySource, Labels, Source
from normfree.data.transforms import Transform
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
            found, image = self._readable(plan, row, bad)
            if image is not None:
                stack.add(self._transformed(image, plan, row, found))
                rows.append(row)
                read.append(found)
        labels = self.source.labels[np.array(read, np.int64)]
        return Read(stack.images(), labels, np.array(rows, np.int64), bad)

    def _readable(
        self, plan: MicroBatchPlan, row: int, bad: list[BadImageError]
    ) -> tuple[int, UInt8[np.ndarray, "h w c"] | None]:
        """Read this example or, in training, the next readable one in the epoch's order.

        The next one in source order would not do: a whole class may be damaged.
        """
        for found in self._candidates(plan, row):
            try:
                return found, self._image(found)
            except BadImageError as error:
                if not self.skip:
                    raise
                bad.append(error)
        if isinstance(self.plan, EvalPlan):
            return int(plan.indices[row]), None
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

    def _image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        if index in self._known_bad:
            raise BadImageError(self.source.name(index), self._known_bad[index])
        try:
            return self.source.image(index)
        except BadImageError as error:
            self._known_bad[index] = error.reason
            raise
        except Exception as error:
            raise UserError(_line(f"reading image {self.source.name(index)}", error)) from error

    def _transformed(
        self, image: UInt8[np.ndarray, "h w c"], plan: MicroBatchPlan, row: int, found: int
    ) -> Image:
        """Transform the image with the random numbers of the row it fills."""
        if self.transform is None:
            return image
        rng = None
        if isinstance(self.plan, BatchPlan):
            place = int(plan.epochs[row]), int(plan.indices[row])
            again = int(plan.repeats[row])
            stream = (_REPEATED, again) if again else (_STREAM,)
            rng = numpy_generator(self.plan.seed, *stream, *place)
        try:
            return self.transform(image, rng)
        except UserError:
            raise
        except Exception as error:
            raise UserError(_line(f"the transform of {self.source.name(found)}", error)) from error


class _Stack:
    """Collects images of one size into a batch; the first image sets the size."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self.shape: tuple[int, ...] = ()
        self.batch = torch.empty(0, 0, 0, 0)

    def add(self, image: Image) -> None:
        if not self.count:
            self._allocate(image)
        if image.shape != self.shape:
            raise UserError(
                f"the images of a batch have different sizes, such as {self.shape} and "
                f"{image.shape}: use a transform that resizes them"
            )
        self.batch.numpy()[self.count] = image.transpose(2, 0, 1)
        self.count += 1

    def images(self) -> Shaped[Tensor, "m c h w"]:
        return self.batch[: self.count]

    def _allocate(self, image: Image) -> None:
        self.shape = height, width, channels = image.shape
        kind = torch.from_numpy(np.empty(0, image.dtype)).dtype
        self.batch = allocate((self.most, channels, height, width), kind)


def _line(what: str, error: Exception) -> str:
    """The error as a single line."""
    if isinstance(error, MemoryError):
        return f"{what} ran out of memory; lower --workers, or raise --accumulate"
    said = " ".join(str(error).split())
    return f"{what} failed: {type(error).__name__}{': ' + said if said else ''}"
