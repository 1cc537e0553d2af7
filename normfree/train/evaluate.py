"""Loss and accuracy of networks on every image of a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from normfree.data import Batch
from normfree.errors import UserError
from normfree.train.device_transform import DeviceTransform
from normfree.train.loss import LOSSES, correct, soft_labels


@dataclass(frozen=True)
class Evaluation:
    """How well a network classifies.

    Attributes:
        images: how many were classified.
        top1: share whose label has the largest logit.
        top5: share whose label is among the five largest; None with fewer than five classes.
        loss: mean loss, without label smoothing.
    """

    images: int
    top1: float
    top5: float | None
    loss: float


@torch.no_grad()
def evaluate(
    models: Mapping[str, nn.Module],
    batches: Iterable[Batch],
    inputs: DeviceTransform,
    loss: str = "softmax",
) -> dict[str, Evaluation]:
    """Evaluate networks in one pass over the images, in float32.

    Args:
        models: by name, for example the raw and the averaged weights; the mode of every module
            in them is restored.
        batches: every image once.
        inputs: brings images into the form the networks take.
        loss: a name of :data:`normfree.train.loss.LOSSES`.

    Returns:
        An evaluation for each name.

    Raises:
        UserError: there was no image that could be read.
    """
    counts = {name: torch.zeros(3, device=inputs.device) for name in models}
    images, classes = 0, 0
    with _evaluating(models.values()):
        for batch in batches:
            x, labels = inputs.evaluation(batch)
            images += len(labels)
            for name, model in models.items():
                logits = model(x)
                classes = logits.shape[1]
                losses = LOSSES[loss](logits, soft_labels(labels, classes)).sum()
                top1, top5 = correct(logits, labels), correct(logits, labels, top=min(5, classes))
                counts[name] += torch.stack([top1, top5, losses])
    if images == 0:
        raise UserError("there is no readable image to evaluate on; check the data directory")
    return {name: _means(count.tolist(), images, classes) for name, count in counts.items()}


@contextmanager
def _evaluating(models: Iterable[nn.Module]) -> Iterator[None]:
    """Within, the networks are in evaluation mode; after, each module is in its own again."""
    parts = [part for model in models for part in model.modules()]
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, training in zip(parts, modes, strict=True):
            part.training = training


def _means(count: list[float], images: int, classes: int) -> Evaluation:
    top1, top5, loss = (value / images for value in count)
    return Evaluation(images, top1, top5 if classes >= 5 else None, loss)
