"""What a plan says of one micro-batch, of training or of evaluation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from normfree.errors import UserError


class MicroBatchPlan(NamedTuple):
    """The plan of a micro-batch of n training examples.

    The m examples to read are distinct: first the n training examples, then the mixing partners
    that are not among them.

    Attributes:
        epochs: epoch of each example to read.
        indices: index of each example in the source.
        keys: ``example_keys(seed, epoch, index)``, which determines an example's randomness. A
            repeated example has a key of its own.
        offsets: position of each example in its epoch.
        repeats: how often the example occurred before in its epoch; 0 unless the order repeats.
        partners: for each of the n examples, the row of the image it is mixed with; None without
            mixing.
        cutmix: True for examples mixed by CutMix, False for MixUp.
        ascent: True for examples that contribute to the gradient of the SAM ascent step.
        others: how many of the n examples, the last ones, contribute to nothing else.
    """

    epochs: Int[np.ndarray, " m"]
    indices: Int[np.ndarray, " m"]
    keys: Int[np.ndarray, " m"]
    offsets: Int[np.ndarray, " m"]
    repeats: Int[np.ndarray, " m"]
    partners: Int[np.ndarray, " n"] | None
    cutmix: Bool[np.ndarray, " n"]
    ascent: Bool[np.ndarray, " n"]
    others: int = 0


def check_rank(rank: int, world: int) -> None:
    """Refuse the number of a rank that does not exist.

    Raises:
        UserError: there are fewer ranks.
    """
    if not 0 <= rank < world:
        raise UserError(f"rank {rank} is not one of the {world} processes")
