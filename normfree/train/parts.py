"""A batch in parts: what is computed together, and what each example is mixed with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from normfree.data import Batch
from normfree.train.config import Recipe


class Part(NamedTuple):
    """Some examples of a batch, on the host.

    Attributes:
        own: the examples.
        others: what each of them is mixed with; None if nothing is mixed.
        cutmix: which of them are mixed by CutMix rather than MixUp.
    """

    own: Batch
    others: Batch | None
    cutmix: Bool[Tensor, " n"]

    def thinned(self, share: float) -> Part:
        """A share of the examples, spread over the part.

        >>> labels = torch.arange(10)
        >>> part = Part(Batch(torch.zeros(10, 1, 1, 1), labels, labels), None, labels >= 5)
        >>> part.thinned(0.2).own.labels
        tensor([0, 5])
        """
        chosen = spread(len(self.own.labels), share)
        return Part(
            _take(self.own, chosen),
            None if self.others is None else _take(self.others, chosen),
            self.cutmix[chosen],
        )


def spread(size: int, share: float) -> Int[Tensor, " m"]:
    """Places of a share of ``size`` examples, as far from each other as they can be; at least one.

    >>> spread(10, 0.3)
    tensor([0, 3, 6])
    """
    count = max(1, round(share * size))
    return torch.arange(count) * size // count


def outputs(batch: Batch, recipe: Recipe) -> int:
    """How many training examples a batch makes: half of it where the other half is mixed in."""
    return len(batch.labels) * recipe.batch_size // recipe.reads


def split(batch: Batch, recipe: Recipe, share: float = 1.0) -> Iterator[Part]:
    """The parts of a batch: of n parts, the first has every n-th example from the first, and so on.

    The first half of a batch is mixed by MixUp and the second by CutMix (``mixup_cutmix``), with
    the example at the same place of the second batch (``two_batches``) or the next one of the batch
    (``in_batch``); neither depends on the number of parts. Each part has some of both halves, as
    each of the authors' replicas has.

    Args:
        batch: of B examples, or of 2B if they are mixed in pairs.
        recipe: says how many parts, and what is mixed with what.
        share: of the examples; fewer of them are in fewer parts.
    """
    size = outputs(batch, recipe)
    places, chosen = torch.arange(size), spread(size, share)
    cutmix = {
        "none": torch.zeros(size, dtype=torch.bool),
        "mixup": torch.zeros(size, dtype=torch.bool),
        "cutmix": torch.ones(size, dtype=torch.bool),
        "mixup_cutmix": places >= size // 2,
    }[recipe.mixing]
    count = min(math.ceil(share * recipe.accumulate), len(chosen))
    for own in (chosen[first::count] for first in range(count)):
        others = None
        if recipe.mixing != "none":
            partners = own + size if size < len(batch.labels) else (own + 1) % size
            others = _take(batch, partners)
        yield Part(_take(batch, own), others, cutmix[own])


def _take(batch: Batch, places: Int[Tensor, " m"]) -> Batch:
    """Some examples; a view, not a copy, where they are equally far from each other."""
    first, *others = places.tolist()
    step = others[0] - first if others else 1
    if step > 0 and places.tolist() == list(range(first, first + step * len(places), step)):
        return Batch(*(x[first : places[-1] + 1 : step] for x in batch))
    return Batch(*(x[places] for x in batch))
