"""The gradient of a batch: at the weights, or where sharpness-aware minimization looks for it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from normfree.data.ascent import AscentScope
from normfree.nn.loss import correct, softmax_cross_entropy
from normfree.optim import SAM
from normfree.train.device_transform import Example
from normfree.train.engine import Engine

Forward: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From images in gray levels (n, c, h, w) and keys (n) to logits (n, k)."""

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From logits and targets (n, k) to the loss of each example (n)."""


SummedLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From images (n, c, h, w), keys (n) and targets (n, k) to the sum of the losses and the number of
examples whose largest logit is that of a largest target."""


ALONE = Engine()


class Measured(NamedTuple):
    """What the pass that makes the gradient measures, on the device.

    Attributes:
        loss: mean over the batch; with SAM, at the ascended weights.
        correct: examples whose largest logit is that of a largest target.
    """

    loss: Float[Tensor, ""]
    correct: Int[Tensor, ""]


def summed_loss(
    forward: Forward,
    loss: Loss = softmax_cross_entropy,
    autocast: torch.dtype | None = None,
) -> SummedLoss:
    """Everything that a gradient passes through, as a function that can be compiled.

    Args:
        forward: the network, on images in gray levels.
        loss: of each example.
        autocast: arithmetic of the forward and backward pass, ``torch.bfloat16`` for instance; None
            for that of the weights. The loss is not part of it.

    >>> model = torch.nn.Linear(4, 3)
    >>> loss_of = summed_loss(lambda images, keys: model(images.flatten(1)))
    >>> total, right = loss_of(torch.ones(6, 1, 2, 2), torch.arange(6), torch.full((6, 3), 1 / 3))
    >>> total.requires_grad, int(right) <= 6
    (True, True)
    """

    def loss_of(images: Tensor, keys: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(images.device.type, autocast, enabled=autocast is not None):
            logits = forward(images, keys)
        largest = targets == targets.amax(dim=1, keepdim=True)  # several, with several labels
        return loss(logits, targets).sum(), correct(logits.detach(), largest)

    return loss_of


def batch_gradient(
    loss_of: SummedLoss,
    examples: Iterable[Example],
    *,
    batch_size: int,
    sam: SAM | None = None,
    scope: AscentScope = "batch",
    statistics: Sequence[Tensor] = (),
    engine: Engine = ALONE,
    count: int | None = None,
    passes: int | None = None,
) -> Measured:
    r"""Add the gradient of a batch's mean loss to ``.grad``, one micro-batch after the other.

    .. math:: g = \frac1B \sum_j \nabla \sum_{i \in j} L_i(w), \qquad
        \text{with SAM at } w + \epsilon,\ \epsilon = \rho\,\frac{a}{\|a\|}

    The sum does not depend on how the batch is split. What a is does: with ``scope="batch"`` it is
    the gradient of the ascending examples of the whole batch, which is held on the device
    meanwhile (see :class:`~normfree.train.device_transform.Example`); with ``"micro_batch"`` each
    micro-batch ascends by its own examples and descends, as replicas that do not synchronize
    would, and no more than one is held. Both passes see the same images and the same masks, so it
    is one function of the weights whose gradient is taken in two places; but for
    ``"other_batch"``, where a is the gradient of the examples that were read for it.

    Args:
        loss_of: see :func:`summed_loss`.
        examples: the micro-batches of a step, taken one at a time.
        batch_size: B, examples of the step over all ranks.
        sam: ascends the weights.
        scope: what ascends together.
        statistics: running statistics that ``loss_of`` moves. They move once for each micro-batch,
            at the descent, and are put back if the batch cannot be finished.
        engine: how several ranks make one gradient.
        count: micro-batches of this rank; needed where there are several ranks.
        passes: forward passes over the ascending examples, the same number on all ranks; None
            makes as few as hold them.

    Returns:
        This rank's share: the shares of all ranks add up to what the batch measures.

    >>> model = torch.nn.Linear(4, 3)
    >>> keys = torch.arange(6)
    >>> some = Example(torch.ones(6, 1, 2, 2), torch.full((6, 3), 1 / 3), keys, keys)
    >>> loss_of = summed_loss(lambda images, keys: model(images.flatten(1)))
    >>> measured = batch_gradient(loss_of, [some], batch_size=6, sam=SAM(model.parameters()))
    >>> model.weight.grad.shape, int(measured.correct) <= 6
    (torch.Size([3, 4]), True)

    Source: equation 2 and appendix A.4 of the paper.

    Differs from: :class:`normfree.optim.SAM` used by hand, where batch normalization's statistics
        move in both passes.
    """

    def summed(example: Example) -> tuple[Tensor, Tensor]:
        return loss_of(example.images, example.keys, example.targets)

    def descend(number: int, example: Example) -> Measured:
        with engine.descending(last=number + 1 == count):
            value, right = summed(example)
            mean = value / batch_size
            mean.backward()
        return Measured(mean.detach(), right)

    def ascending(few: Iterable[Example]) -> Iterator[Tensor]:
        """Losses of those that ascend; the statistics are left alone."""
        with _put_back(statistics):
            for example in few:
                yield summed(example)[0] * (1 if len(example.ascent) else 0)

    def measured() -> Iterator[Measured]:
        if sam is None:
            yield from map(descend, itertools.count(), examples)
        elif scope == "micro_batch":
            for number, example in enumerate(examples):
                with engine.ascended(sam, ascending([example.ascending]), together=False):
                    yield descend(number, example)
        else:
            held = list(examples)
            with engine.ascended(sam, ascending(_ascending(held, passes)), together=True):
                own = (example.descending for example in held)
                yield from map(descend, itertools.count(), own)

    with _put_back(statistics, only_after_an_error=True):
        losses, right = zip(*measured(), strict=True)
    assert count in (None, len(losses)), "the last micro-batch of a step is missing"
    return Measured(torch.stack(losses).sum(), torch.stack(right).sum())


def _ascending(held: Sequence[Example], passes: int | None) -> Sequence[Example]:
    """Those that ascend, in as few micro-batches as hold them: a fifth of them costs a fifth.

    If fewer ascend than there are passes to make, some passes have an image that does not.
    """
    few = [example.ascending for example in held if len(example.ascent)]
    largest = max(len(example.keys) - example.others for example in held)
    examples = sum(len(example.keys) for example in few)
    count = math.ceil(examples / largest) if passes is None else passes
    if count == len(few):
        return few
    full = min(count, examples)
    images, targets, keys = (column[:2] for column in held[0][:3])
    idle = Example(images, targets, keys, held[0].ascent[:0])
    if full == 0:
        return [idle] * count
    whole = [example[:4] for example in few]
    columns = (torch.cat(column).tensor_split(full) for column in zip(*whole, strict=True))
    return [*(Example(*parts) for parts in zip(*columns, strict=True)), *[idle] * (count - full)]


@contextmanager
def _put_back(tensors: Sequence[Tensor], *, only_after_an_error: bool = False) -> Iterator[None]:
    """After, the tensors have the values that they had before."""
    kept = [tensor.clone() for tensor in tensors]
    finished = False
    try:
        yield
        finished = True
    finally:
        if not (finished and only_after_an_error):
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
