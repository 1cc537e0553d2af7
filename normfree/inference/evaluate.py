"""Loss and accuracy of networks on every image of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.data import Batch
from normfree.data.batch import Labels
from normfree.errors import UserError
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


def top1(answers: Answers) -> Tensor:
    """Number of images whose label has the largest logit."""
    return correct(answers.logits, answers.labels)


def top5(answers: Answers) -> Tensor | None:
    """Number of images whose label is in the top five; None with fewer than five classes."""
    if answers.logits.shape[1] < 5:
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
        metrics: name → mean over the images; None if the metric does not apply.
    """

    images: int
    metrics: Mapping[str, float | None]

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
) -> dict[str, Evaluation]:
    """Evaluate networks in one pass over the images, in float32.

    Args:
        models: name → network, such as the raw and the averaged weights. Each module's training
            mode is restored afterwards.
        batches: every image once.
        prepare: maps a batch to normalized images and labels, on the device of the networks.
        loss: a key of :data:`normfree.nn.loss.LOSSES`.
        metrics: the metrics to compute.

    Returns:
        Name → evaluation.

    Raises:
        UserError: no image could be read.
    """
    sums: dict[str, Tensor | float] = dict.fromkeys(models, 0.0)
    images, measured = 0, list(metrics)
    with _evaluating(models.values()):
        for batch in batches:
            x, labels = prepare(batch)
            images += len(labels)
            for name, model in models.items():
                logits = model(x)
                losses = LOSSES[loss](logits, soft_labels(labels, logits.shape[1]))
                found = {k: m(Answers(logits, labels, losses)) for k, m in metrics.items()}
                measured = [k for k, value in found.items() if value is not None]
                values = [value.float() for value in found.values() if value is not None]
                sums[name] = sums[name] + torch.stack(values)
    if images == 0:
        raise UserError("there is no readable image to evaluate on; check the data directory")
    return {name: _means(total, measured, metrics, images) for name, total in sums.items()}


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


def _means(
    total: Tensor | float, measured: list[str], metrics: Mapping[str, Metric], images: int
) -> Evaluation:
    values = total.tolist() if isinstance(total, Tensor) else []
    means = {name: value / images for name, value in zip(measured, values, strict=True)}
    return Evaluation(images, {name: means.get(name) for name in metrics})
