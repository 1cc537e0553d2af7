"""Target distributions, per-example losses and top-k counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


def soft_labels(
    labels: Int[Tensor, " n"] | Bool[Tensor, "n c"],
    num_classes: int,
    smoothing: float = 0.0,
    *,
    mix_labels: Int[Tensor, " n"] | Bool[Tensor, "n c"] | None = None,
    ratio: Float[Tensor, " n"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "n k"]:
    """Soft labels: y = r·onehot(a) + (1 − r)·onehot(b), smoothed to (1 − s)·y + s/k.

    Args:
        labels: a, the class of each example; or, where an example may have any number of
            classes, a row of c ≤ k truth values for each, in place of the one-hot vector.
        num_classes: k; smoothing is spread over all classes, including the correct one.
        smoothing: s, the probability spread over the classes.
        mix_labels: b, the class of the image mixed in; None without mixing.
        ratio: r, the weight of ``labels`` in a mixed example.
        dtype: data type of the result.

    >>> soft_labels(torch.tensor([1]), 4, smoothing=0.1)
    tensor([[0.0250, 0.9250, 0.0250, 0.0250]])

    Source: appendix A.1 of the paper (label smoothing); ``_loss_fn`` in the authors' code.
    """
    y = _hot(labels, num_classes).to(dtype)
    if mix_labels is not None and ratio is not None:
        y_mix = _hot(mix_labels, num_classes).to(dtype)
        y = ratio[:, None] * y + (1 - ratio[:, None]) * y_mix
    return (1 - smoothing) * y + smoothing / num_classes


def _hot(
    labels: Int[Tensor, " n"] | Bool[Tensor, "n c"], num_classes: int
) -> Int[Tensor, "n k"] | Bool[Tensor, "n k"]:
    """One-hot rows of class indices; multi-hot rows, extended by classes that have no images."""
    if labels.ndim == 2:
        return functional.pad(labels, (0, num_classes - labels.shape[1]))
    return functional.one_hot(labels, num_classes)


def softmax_cross_entropy(
    logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """Per-example −Σₖ targetₖ · log softmax(logits)ₖ, computed in at least float32.

    >>> loss = softmax_cross_entropy(torch.zeros(1, 4), soft_labels(torch.tensor([2]), 4))
    >>> round(loss.exp().item(), 4)
    4.0
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return -(targets * functional.log_softmax(logits, dim=1, dtype=dtype)).sum(dim=1)


def sigmoid_cross_entropy(
    logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """Per-example −Σₖ [tₖ·log σ(zₖ) + (1 − tₖ)·log(1 − σ(zₖ))], in at least float32.

    Each class is an independent binary decision, so an example may have several classes or none.

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


#: Name in a recipe → per-example loss.
LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}
)


def class_weighted(
    loss: Callable[[Tensor, Tensor], Tensor],
    weights: Float[Tensor, " c"],
    smoothing: float = 0.0,
) -> Callable[[Tensor, Tensor], Tensor]:
    r"""A per-example loss, times the weight of the example's class.

    .. math:: L_i \sum_k w_k y_{ik}, \qquad y = (t - s/k) / (1 - s)

    where y is what :func:`soft_labels` smoothed to the targets t: of a mixed example, the mean of
    two classes' weights. No weight depends on the other examples, so the mean over a batch is the
    same in any number of micro-batches and on any number of ranks.

    Args:
        loss: from logits and targets (n, k) to the loss of each example.
        weights: w, of the first c ≤ k classes; the others have weight 0.
        smoothing: s.

    >>> loss = class_weighted(softmax_cross_entropy, torch.tensor([0.5, 2.0]), smoothing=0.1)
    >>> targets = soft_labels(torch.tensor([0, 1]), 2, smoothing=0.1)
    >>> loss(torch.zeros(2, 2), targets) / softmax_cross_entropy(torch.zeros(2, 2), targets)
    tensor([0.5000, 2.0000])

    Differs from: the weights of ``torch.nn.CrossEntropyLoss``, which divides by the sum of a
        batch's weights, and applies them to the smoothed targets.
    """

    def weighted(logits: Tensor, targets: Tensor) -> Tensor:
        classes = targets.shape[1]
        of_class = functional.pad(weights, (0, classes - len(weights)))
        labels = (targets - smoothing / classes) / (1 - smoothing)
        return loss(logits, targets) * (labels @ of_class)

    return weighted


def correct(
    logits: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"] | Bool[Tensor, "n c"],
    top: int = 1,
) -> Int[Tensor, ""]:
    """Count the examples whose label is among the ``top`` largest logits.

    An example with several labels counts if one of them is.

    >>> correct(torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.2, 0.1]]), torch.tensor([0, 0]), top=2)
    tensor(2)
    """
    best = logits.topk(top, dim=1).indices
    if labels.ndim == 2:
        return _hot(labels, logits.shape[1]).gather(1, best).any(dim=1).sum()
    return (best == labels[:, None]).any(dim=1).sum()
