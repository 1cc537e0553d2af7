"""The gradient of a batch: at the weights, or where sharpness-aware minimization looks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from normfree.data import Batch
from normfree.nn.loss import LOSSES, correct
from normfree.train.inputs import Inputs
from normfree.train.parts import Part, outputs, split
from normfree.train.resolve import Resolved
from normfree.train.state import TrainState


class Measured(NamedTuple):
    """What the pass that makes the gradient measures, on the device.

    Attributes:
        loss: mean over the batch; with SAM, at the ascended weights.
        correct: examples whose largest logit is that of their largest target.
    """

    loss: Float[Tensor, ""]
    correct: Int[Tensor, ""]


def batch_gradient(state: TrainState, batch: Batch, resolved: Resolved, inputs: Inputs) -> Measured:
    """Leave the gradient of the batch's mean loss in ``.grad``, in as many parts as the recipe has.

    With SAM it is the gradient at w + ε, ε = ρ·g/‖g‖. What g is depends on the recipe:
    ``sam_scope="batch"`` takes the mean gradient of the batch (or a share of its examples);
    ``"part"`` repeats ascent and descent for each part, as replicas that do not synchronize would.
    Both passes see an example under the same augmentation and the same masks, so it is one function
    of the weights whose gradient is taken in two places.

    Args:
        state: its model's gradients are added to.
        batch: on the host.
        resolved: the configuration.
        inputs: brings images into the form the network takes.
    """
    recipe, size = resolved.recipe, outputs(batch, resolved.recipe)
    parts, share = list(split(batch, recipe)), recipe.sam_fraction

    def descend(part: Part) -> Measured:
        loss, right = _loss(state, part, size, resolved, inputs)
        loss.backward()
        return Measured(loss.detach(), right)

    if state.sam is None:
        return _sum(map(descend, parts))
    measured = []
    if recipe.sam_scope == "batch":
        ascents = [(list(split(batch, recipe, share)), parts)]
    else:
        ascents = [([part.thinned(share)], [part]) for part in parts]
    for few, all_of_them in ascents:
        with state.sam.ascended(_ascent(state, few, resolved, inputs)):
            measured += [descend(part) for part in all_of_them]
    return _sum(measured)


def _ascent(
    state: TrainState, parts: Sequence[Part], resolved: Resolved, inputs: Inputs
) -> list[Tensor | None]:
    """The gradient of the summed loss of some examples; ``.grad`` is left alone."""
    assert state.sam is not None
    total: list[Tensor | None] = [None] * len(state.sam.params)
    for part in parts:
        loss, _ = _loss(state, part, 1, resolved, inputs)
        gradients = torch.autograd.grad(loss, state.sam.params, allow_unused=True)
        total = [_added(before, g) for before, g in zip(total, gradients, strict=True)]
    return total


def _added(before: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """The sum of what there is."""
    return gradient if before is None else before if gradient is None else before + gradient


def _loss(
    state: TrainState, part: Part, size: int, resolved: Resolved, inputs: Inputs
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """The part's share of the mean loss over ``size`` examples, and how many it gets right."""
    recipe = resolved.recipe
    images, targets, keys = inputs.train(part)
    with torch.autocast(images.device.type, torch.bfloat16, recipe.precision == "bfloat16"):
        logits = state.forward(images, keys)
    loss = LOSSES[recipe.loss](logits, targets).sum() / size
    return loss, correct(logits.detach(), targets.argmax(dim=1))


def _sum(measured: Iterable[Measured]) -> Measured:
    losses, right = zip(*measured, strict=True)
    return Measured(torch.stack(losses).sum(), torch.stack(right).sum())
