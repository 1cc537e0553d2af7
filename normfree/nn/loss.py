"""What a network should answer, and how far from it its answer is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def soft_labels(
    labels: Int[Tensor, " n"],
    num_classes: int,
    smoothing: float = 0.0,
    *,
    mix_labels: Int[Tensor, " n"] | None = None,
    ratio: Float[Tensor, " n"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "n k"]:
    """Labels as distributions: y = r·onehot(a) + (1 − r)·onehot(b), then (1 − s)·y + s / classes.

    Args:
        labels: class of each example, a.
        num_classes: k; the smoothing spreads over all of them, the right one included.
        smoothing: s, the share that is spread.
        mix_labels: class of what was mixed in, b; None where nothing was.
        ratio: share of ``labels`` in a mixed example, r.
        dtype: of the result.

    >>> soft_labels(torch.tensor([1]), 4, smoothing=0.1)
    tensor([[0.0250, 0.9250, 0.0250, 0.0250]])

    Source: paper, section 5 (label smoothing) and ``_loss_fn`` of the authors' experiment.
    """
    y = functional.one_hot(labels, num_classes).to(dtype)
    if mix_labels is not None and ratio is not None:
        y_mix = functional.one_hot(mix_labels, num_classes).to(dtype)
        y = ratio[:, None] * y + (1 - ratio[:, None]) * y_mix
    return (1 - smoothing) * y + smoothing / num_classes


def softmax_cross_entropy(
    logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """Each example's −Σₖ targetₖ · log softmax(logits)ₖ, computed in at least float32.

    >>> loss = softmax_cross_entropy(torch.zeros(1, 4), soft_labels(torch.tensor([2]), 4))
    >>> round(loss.exp().item(), 4)
    4.0
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return -(targets * functional.log_softmax(logits, dim=1, dtype=dtype)).sum(dim=1)


def sigmoid_cross_entropy(
    logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """Each example's −Σₖ [tₖ·log σ(zₖ) + (1 − tₖ)·log(1 − σ(zₖ))], in at least float32.

    Every class is a question of its own, so an example may have several, or none.

    Args:
        logits: z.
        targets: t, each in [0, 1]; a row need not sum to one.

    >>> several = torch.tensor([[1.0, 0.0, 1.0]])
    >>> sigmoid_cross_entropy(torch.zeros(1, 3), several) / 3
    tensor([0.6931])

    Differs from: ``torch.nn.BCEWithLogitsLoss``, whose default is the mean over the classes.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    loss = functional.binary_cross_entropy_with_logits(
        logits.to(dtype), targets.to(dtype), reduction="none"
    )
    return loss.sum(dim=1)


#: Name in a recipe → loss of each example.
LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}
)


def correct(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], top: int = 1
) -> Int[Tensor, ""]:
    """How many examples have their label among the ``top`` largest logits.

    >>> correct(torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.2, 0.1]]), torch.tensor([0, 0]), top=2)
    tensor(2)
    """
    best = logits.topk(top, dim=1).indices
    return (best == labels[:, None]).any(dim=1).sum()
