"""What the loader delivers: batches to evaluate on, micro-batches to train on."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Int, Shaped
from torch import Tensor


class Batch(NamedTuple):
    """Images with their labels, on the host.

    Attributes:
        images: bytes as stored, or whatever a transform yields, in grey levels of 0 to 255.
        labels: class of each example, int64.
        keys: ``example_keys(seed, epoch, index)`` of each example, int64.
    """

    images: Shaped[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    keys: Int[Tensor, " n"]


class MicroBatch(NamedTuple):
    """What is computed together: n training examples and what they are mixed with, on the host.

    Each of the m images is here once; the first n are trained on.

    Attributes:
        images: bytes as stored, or whatever a transform yields, in grey levels of 0 to 255.
        labels: class of each image, int64.
        keys: ``example_keys(seed, epoch, index)`` of each image, int64.
        partners: what each of the n is mixed with, as rows of the m; None if nothing is mixed.
        cutmix: which of the n are mixed by CutMix rather than MixUp.
        ascent: which of the n give the gradient by which SAM ascends.
    """

    images: Shaped[Tensor, "m c h w"]
    labels: Int[Tensor, " m"]
    keys: Int[Tensor, " m"]
    partners: Int[Tensor, " n"] | None
    cutmix: Bool[Tensor, " n"]
    ascent: Bool[Tensor, " n"]

    @property
    def size(self) -> int:
        """n: examples to train on."""
        return len(self.cutmix)
