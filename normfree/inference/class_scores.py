"""How a network does on each class, from counts: confusion, precision, recall and F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from normfree.inference.evaluate import Answers

Counts = Mapping[tuple[int, int], int]
"""(class, answer) → number of images."""


class ClassScores(NamedTuple):
    """Scores of k classes; NaN where there is nothing to divide by.

    Attributes:
        precision: share of the images answered with a class that are of it.
        recall: share of the images of a class that are answered with it.
        f1: harmonic mean of the two.
        support: number of images of the class.
    """

    precision: Float[np.ndarray, " k"]
    recall: Float[np.ndarray, " k"]
    f1: Float[np.ndarray, " k"]
    support: Int[np.ndarray, " k"]

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have images."""
        known = self.recall[self.support > 0]
        return float(known.mean()) if known.size else float("nan")

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that have images."""
        known = self.f1[self.support > 0]
        return float(known.mean()) if known.size else float("nan")


def class_scores(
    right: Int[np.ndarray, " k"], answered: Int[np.ndarray, " k"], support: Int[np.ndarray, " k"]
) -> ClassScores:
    r"""Precision TP / (TP + FP), recall TP / (TP + FN) and F1 = 2 TP / (2 TP + FP + FN).

    Args:
        right: images of a class that are answered with it, TP.
        answered: images that are answered with the class, TP + FP.
        support: images of the class, TP + FN.

    >>> scores = class_scores(np.array([2, 0]), np.array([4, 0]), np.array([2, 3]))
    >>> scores.precision, scores.recall, scores.f1.round(3), scores.balanced_accuracy
    (array([0.5, nan]), array([1., 0.]), array([0.667, 0.   ]), 0.5)
    """
    with np.errstate(invalid="ignore"):
        return ClassScores(
            right / answered, right / support, 2 * right / (answered + support), support
        )


def confusion_matrix(counts: Counts, classes: int) -> Int[np.ndarray, "k k"]:
    """Number of images by class (row) and answer (column).

    >>> confusion_matrix({(0, 0): 3, (1, 0): 1}, 2)
    array([[3, 0],
           [1, 0]])
    """
    matrix = np.zeros((classes, classes), np.int64)
    for pair, count in counts.items():
        matrix[pair] = count
    return matrix


def scores_of_counts(counts: Counts, classes: int) -> ClassScores:
    """Scores from counts of pairs, without the k × k matrix."""
    right, answered, support = (np.zeros(classes, np.int64) for _ in range(3))
    for (label, answer), count in counts.items():
        support[label] += count
        answered[answer] += count
        right[label] += count * (label == answer)
    return class_scores(right, answered, support)


@dataclass
class Confusion:
    """Counts of every class and answer; its :meth:`see` is a metric of one network.

    Attributes:
        counts: (class, answer) → number of images; empty for images with several labels.
        outputs: of the network, which may be more than there are classes.
    """

    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    outputs: int = 0

    def see(self, answers: Answers) -> None:
        """Count a batch; nothing is added up, see :data:`normfree.inference.METRICS`."""
        self.outputs = answers.logits.shape[1]
        if answers.labels.ndim == 1:
            given = answers.logits.argmax(dim=1).tolist()
            self.counts.update(zip(answers.labels.tolist(), given, strict=True))
