"""Metrics of images with several labels each: from all scores of a split at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from normfree.inference.class_scores import ClassScores, class_scores


class Scores(NamedTuple):
    """The answers for images that may have any number of classes.

    Attributes:
        logits: of each image and class; a class is answered where its probability exceeds 1/2,
            so where its logit is positive.
        labels: whether the image has the class.
    """

    logits: Float32[np.ndarray, "n c"]
    labels: Bool[np.ndarray, "n c"]


SplitMetric: TypeAlias = Callable[[Scores], float]
"""A metric that no sum over images gives; independent of their order."""


def average_precision(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    r"""The area under the steps of precision over recall; NaN without a positive.

    .. math:: AP = \sum_t (R_t - R_{t-1}) P_t

    over the thresholds t from the largest score to the smallest; equal scores share one, so the
    order of the images does not matter.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    0.8333333333333333
    """
    positives = int(labels.sum())
    if not positives or np.isnan(scores).any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    sorted_scores, right = scores[order], np.cumsum(labels[order])
    last = np.append(np.flatnonzero(sorted_scores[1:] != sorted_scores[:-1]), len(scores) - 1)
    recalled = np.diff(right[last], prepend=0) / positives
    return float(np.sum(recalled * (right[last] / (last + 1))))


def average_precisions(found: Scores) -> Float[np.ndarray, " c"]:
    """The average precision of each class; NaN for one without images."""
    pairs = zip(found.logits.T, found.labels.T, strict=True)
    return np.array([average_precision(scores, labels) for scores, labels in pairs])


def mean_average_precision(found: Scores) -> float:
    """mAP: the mean over the classes that have images."""
    known = average_precisions(found)[found.labels.any(axis=0)]
    return float(known.mean()) if known.size else float("nan")


def label_scores(found: Scores) -> ClassScores:
    """Precision, recall and F1 of each class, each a binary decision."""
    answered = found.logits > 0
    return class_scores(
        (answered & found.labels).sum(axis=0), answered.sum(axis=0), found.labels.sum(axis=0)
    )


def micro_f1(found: Scores) -> float:
    """F1 of all decisions together: 2 TP / (2 TP + FP + FN), summed over the classes."""
    answered = found.logits > 0
    right, total = (answered & found.labels).sum(), answered.sum() + found.labels.sum()
    return float(2 * right / total) if total else float("nan")


def macro_f1(found: Scores) -> float:
    """The mean F1 of the classes that have images."""
    return label_scores(found).macro_f1


#: Metrics of images with several labels: name → metric.
SPLIT_METRICS: Mapping[str, SplitMetric] = MappingProxyType(
    {"map": mean_average_precision, "micro_f1": micro_f1, "macro_f1": macro_f1}
)


class ScoreList:
    """The scores of a network, batch by batch; on its device until all are there."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Tensor]] = []

    def add(self, logits: Float[Tensor, "n k"], labels: Bool[Tensor, "n c"]) -> None:
        """Remember a batch; outputs beyond the classes are left out."""
        self._batches.append((logits[:, : labels.shape[1]].float(), labels))

    def on_host(self) -> Scores | None:
        """All of them; None without any."""
        if not self._batches:
            return None
        logits, labels = (torch.cat(x).cpu().numpy() for x in zip(*self._batches, strict=True))
        return Scores(logits, labels)


def joined(parts: Sequence[Scores | None]) -> Scores | None:
    """What several processes found, as one; None where there is nothing."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    logits, labels = (np.concatenate(x) for x in zip(*known, strict=True))
    return Scores(logits, labels)
