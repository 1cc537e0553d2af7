"""What the loader yields: batches for evaluation, micro-batches for training."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from jaxtyping import Bool, Int, Shaped
from torch import Tensor

Labels: TypeAlias = Int[Tensor, " n"] | Bool[Tensor, "n k"]
"""The class index of each example, int64; or a row of truth values for each, where an example may
have any number of classes (multi-hot)."""


class Batch(NamedTuple):
    """Images and their labels, on the host.

    Attributes:
        images: uint8 as stored, or the output of the transform; pixel values range from 0 to 255.
        labels: class index of each example, int64; or its classes, bool (n, k).
        keys: ``example_keys(seed, epoch, index)`` of each example, int64.
    """

    images: Shaped[Tensor, "n c h w"]
    labels: Labels
    keys: Int[Tensor, " n"]


class MicroBatch(NamedTuple):
    """n training examples and the images they are mixed with, on the host.

    Each of the m images appears once. The first n are the examples to train on.

    Attributes:
        images: uint8 as stored, or the output of the transform; pixel values range from 0 to 255.
        labels: class index of each image, int64; or its classes, bool (m, k).
        keys: ``example_keys(seed, epoch, index)`` of each image, int64.
        partners: for each of the n examples, the row of the image it is mixed with; None without
            mixing.
        cutmix: True for examples mixed by CutMix, False for MixUp.
        ascent: True for examples that contribute to the gradient of the SAM ascent step.
        others: how many of the n examples, the last ones, contribute to nothing else.
    """

    images: Shaped[Tensor, "m c h w"]
    labels: Labels
    keys: Int[Tensor, " m"]
    partners: Int[Tensor, " n"] | None
    cutmix: Bool[Tensor, " n"]
    ascent: Bool[Tensor, " n"]
    others: int = 0

    @property
    def size(self) -> int:
        """Number of training examples, n."""
        return len(self.cutmix)
