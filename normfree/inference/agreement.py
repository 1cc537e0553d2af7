"""How far an exported file agrees with the network that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_BATCH = 32


@dataclass(frozen=True)
class Agreement:
    """The answers of two forms of a network for the same images.

    Attributes:
        images: how many.
        difference: largest absolute difference of a probability; NaN where a logit is not finite.
        same_top1: share of the images with the same likeliest class.
        accuracy: top-1 accuracy of the network and of the other form; None without labels.
    """

    images: int
    difference: float
    same_top1: float
    accuracy: tuple[float, float] | None = None


@torch.no_grad()
def agreement(
    model: nn.Module,
    other: nn.Module,
    images: Float[Tensor, "n c h w"],
    loss: str = "softmax",
    labels: Int[Tensor, " n"] | None = None,
) -> Agreement:
    """Compare two forms of a network.

    Args:
        model: the network.
        other: the other form, such as an exported file.
        images: normalized images, at least one.
        loss: ``softmax`` or ``sigmoid``, which say how logits become probabilities.
        labels: class of each image, to compare the accuracies.

    >>> found = agreement(nn.Identity(), nn.Identity(), torch.eye(3), labels=torch.arange(3))
    >>> found
    Agreement(images=3, difference=0.0, same_top1=1.0, accuracy=(1.0, 1.0))
    """
    pairs = [(model(x).float().cpu(), other(x).float().cpu()) for x in images.split(_BATCH)]
    logits, theirs = (torch.cat(x) for x in zip(*pairs, strict=True))
    shares, other_shares = (
        x.sigmoid() if loss == "sigmoid" else x.softmax(dim=1) for x in (logits, theirs)
    )
    answers, other_answers = logits.argmax(dim=1), theirs.argmax(dim=1)

    def share(right: Tensor) -> float:
        return float(right.float().mean())

    return Agreement(
        images=len(images),
        difference=float((shares - other_shares).abs().max()),
        same_top1=share(answers == other_answers),
        accuracy=None
        if labels is None
        else (share(answers == labels), share(other_answers == labels)),
    )
