"""Classes of unequal size: an order that shows each equally often, or weights for the loss."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int

from normfree.data.sources.source import Labels, class_counts
from normfree.errors import UserError
from normfree.random import numpy_generator

_STREAM, _SHUFFLE = 4, 5  # numpy_generator streams: a class's order, and that of an epoch


def class_weights(labels: Labels, classes: int) -> Float64[np.ndarray, " k"]:
    r"""Weights that give every class the same share of the loss: :math:`w_c = n / (k\,n_c)`.

    Their mean over the examples is one, so the learning rate keeps its meaning. A class without
    examples has weight 0, and k counts the others.

    Args:
        labels: class of each example.
        classes: number of classes.

    >>> class_weights(np.array([0, 0, 0, 1]), 2)
    array([0.66666667, 2.        ])

    Raises:
        UserError: an example may have several labels.
    """
    _check_single(labels)
    counts = class_counts(labels, classes)
    present = counts > 0
    weights = np.zeros(classes)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


@dataclass(frozen=True, eq=False)
class BalancedOrder:
    """Visit every class equally often: an order of n examples for each epoch.

    A class with more examples than its share shows the next part of them in each epoch, so that all
    have been seen after a few; one with fewer repeats them, each equally often up to one. Shares
    that are no whole number rotate: over epochs, classes differ by one at most.

    Args:
        labels: class of each example.

    Raises:
        UserError: an example may have several labels.

    >>> labels = np.array([0] * 9 + [1] * 3)
    >>> order = BalancedOrder(labels)
    >>> [np.bincount(labels[order(0, epoch)]).tolist() for epoch in range(2)]
    [[6, 6], [6, 6]]
    >>> len(set(order(0, 0)) | set(order(0, 1)))
    12
    """

    labels: Int[np.ndarray, " n"] = field(repr=False)

    def __post_init__(self) -> None:
        _check_single(self.labels)

    def __call__(self, seed: int, epoch: int) -> Int[np.ndarray, " n"]:
        """The examples of an epoch, a function of (seed, epoch)."""
        members = self._members()
        begins, ends = (self._shown(len(members), at) for at in (epoch, epoch + 1))
        chosen = [
            some[_endless(seed, number, len(some), begin, end)]
            for number, (some, begin, end) in enumerate(zip(members, begins, ends, strict=True))
        ]
        examples = np.concatenate(chosen)
        shuffled: Int[np.ndarray, " n"] = numpy_generator(seed, _SHUFFLE, epoch).permutation(
            examples
        )
        return shuffled

    def _members(self) -> list[Int[np.ndarray, " m"]]:
        """The examples of each class that has some."""
        by_class = np.argsort(self.labels, kind="stable")
        return np.split(by_class, np.flatnonzero(np.diff(self.labels[by_class])) + 1)

    def _shown(self, classes: int, epoch: int) -> list[int]:
        """How many examples of each class were shown before an epoch: n · epoch, dealt in turn."""
        whole, rest = divmod(len(self.labels) * epoch, classes)
        return [whole + (number < rest) for number in range(classes)]


def _endless(seed: int, number: int, size: int, begin: int, end: int) -> Int[np.ndarray, " m"]:
    """Positions ``begin`` to ``end − 1`` of permutations of a class, one behind the other."""
    rounds, places = np.divmod(np.arange(begin, end), size)
    found = np.empty_like(places)
    for turn in np.unique(rounds):
        order = numpy_generator(seed, _STREAM, number, int(turn)).permutation(size)
        found[rounds == turn] = order[places[rounds == turn]]
    return found


def _check_single(labels: Labels) -> None:
    if labels.ndim != 1:
        raise UserError("classes can be balanced only where each image has a single label")
