"""Loss and accuracy of networks on every image of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.data import Batch
from normfree.data.batch import Labels
from normfree.errors import UserError
from normfree.inference.several_labels import (
    SPLIT_METRICS,
    ScoreList,
    Scores,
    SplitMetric,
    joined,
)
from normfree.nn.loss import LOSSES, correct, soft_labels


class Answers(NamedTuple):
    """The outputs of a network for a batch.

    Attributes:
        logits: logits of each image.
        labels: true class of each image; or its true classes, bool (n, k).
        losses: loss of each image, without label smoothing.
    """

    logits: Float[Tensor, "n k"]
    labels: Labels
    losses: Float[Tensor, " n"]


Metric: TypeAlias = Callable[[Answers], Tensor | None]
"""Returns the sum of a per-image metric over a batch, or None if the metric does not apply."""


def top1(answers: Answers) -> Tensor | None:
    """Number of images whose label has the largest logit; None with several labels an image."""
    return None if answers.labels.ndim == 2 else correct(answers.logits, answers.labels)


def top5(answers: Answers) -> Tensor | None:
    """Number of images whose label is in the top five.

    None with several labels an image, and with five classes or fewer, of which it is every image.
    """
    if answers.labels.ndim == 2 or answers.logits.shape[1] <= 5:
        return None
    return correct(answers.logits, answers.labels, top=5)


def loss(answers: Answers) -> Tensor:
    """Sum of the losses."""
    return answers.losses.sum()


#: Metrics of every evaluation: name → metric. Add new metrics here.
METRICS: Mapping[str, Metric] = MappingProxyType({"top1": top1, "top5": top5, "loss": loss})


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        images: number of images.
        metrics: name → mean over the images, or what a :data:`SplitMetric` finds; None if the
            metric does not apply.
        scores: of images with several labels each; None with one label each.
    """

    images: int
    metrics: Mapping[str, float | None]
    scores: Scores | None = field(default=None, repr=False, compare=False)

    def __getitem__(self, name: str) -> float:
        """The value of a metric."""
        value = self.metrics[name]
        if value is None:
            raise UserError(f"{name} does not apply to this network")
        return value


@torch.no_grad()
def evaluate(
    models: Mapping[str, nn.Module],
    batches: Iterable[Batch],
    prepare: Callable[[Batch], tuple[Tensor, Tensor]],
    loss: str = "softmax",
    metrics: Mapping[str, Metric] = METRICS,
    *,
    split_metrics: Mapping[str, SplitMetric] = SPLIT_METRICS,
    add_up: Callable[[Tensor], Tensor] = lambda sums: sums,
    gather: Callable[[Scores | None], list[Scores | None]] = lambda scores: [scores],
) -> dict[str, Evaluation]:
    """Evaluate networks in one pass over the images, in float32; sums are taken in float64.

    Args:
        models: name → network, such as the raw and the averaged weights. Each module's training
            mode is restored afterwards.
        batches: every image once.
        prepare: maps a batch to normalized images and labels, on the device of the networks.
        loss: a key of :data:`normfree.nn.loss.LOSSES`.
        metrics: the metrics to compute.
        split_metrics: those of images with several labels each, which need all scores at once;
            empty keeps no scores.
        add_up: sum of a tensor of the host over processes that each evaluate a part of the
            batches; called once, at the end.
        gather: the scores of this process → those of all of them; called after ``add_up`` for each
            network, with the loss ``sigmoid`` only.

    Returns:
        Name → evaluation.

    Raises:
        UserError: no image could be read.
    """
    sums = {name: _Sums(len(metrics)) for name in models}
    scores = {name: ScoreList() for name in models}
    with _evaluating(models.values()):
        for batch in batches:
            x, labels = prepare(batch)
            for name, model in models.items():
                logits = model(x)
                losses = LOSSES[loss](logits, soft_labels(labels, logits.shape[1]))
                found = [metric(Answers(logits, labels, losses)) for metric in metrics.values()]
                sums[name].add(found, len(labels))
                if labels.ndim == 2 and split_metrics:
                    scores[name].add(logits, labels)
    totals = add_up(torch.stack([total.on_host() for total in sums.values()]))
    if not totals[0, -1]:
        raise UserError("there is no readable image to evaluate on; check the data directory")
    evaluations = {}
    for (name, own), total in zip(scores.items(), totals, strict=True):
        shared = bool(split_metrics) and loss == "sigmoid"
        whole = joined(gather(own.on_host()) if shared else [own.on_host()])
        evaluations[name] = _evaluation(total, metrics, whole, split_metrics)
    return evaluations


@contextmanager
def _evaluating(models: Iterable[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode, then restore the mode of each module."""
    parts = [part for model in models for part in model.modules()]
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, training in zip(parts, modes, strict=True):
            part.training = training


class _Sums:
    """Sums of the metrics of a network, on the device until they are asked for."""

    def __init__(self, metrics: int) -> None:
        self.values: Tensor | float = 0.0
        self.applied = [0.0] * metrics  # batches that a metric applied to
        self.images = 0

    def add(self, found: Sequence[Tensor | None], images: int) -> None:
        """Count a batch."""
        self.applied = [
            n + (value is not None) for n, value in zip(self.applied, found, strict=True)
        ]
        zero = torch.zeros((), device=next((x.device for x in found if x is not None), None))
        values = torch.stack([zero if value is None else value.float() for value in found])
        exact = values.device.type != "mps"  # which has no float64
        self.values = self.values + (values.double() if exact else values)
        self.images += images

    def on_host(self) -> Float[Tensor, " sums"]:
        """Values, batches and images in one vector."""
        values = (
            self.values.tolist() if isinstance(self.values, Tensor) else [0.0] * len(self.applied)
        )
        return torch.tensor([*values, *self.applied, self.images], dtype=torch.float64)


def _evaluation(
    total: Float[Tensor, " sums"],
    metrics: Mapping[str, Metric],
    scores: Scores | None,
    split_metrics: Mapping[str, SplitMetric],
) -> Evaluation:
    *sums, images = total.tolist()
    values, applied = sums[: len(metrics)], sums[len(metrics) :]
    found: dict[str, float | None] = {
        name: value / images if batches else None
        for name, value, batches in zip(metrics, values, applied, strict=True)
    }
    if scores is not None:
        found |= {name: metric(scores) for name, metric in split_metrics.items()}
    return Evaluation(int(images), found, scores)
