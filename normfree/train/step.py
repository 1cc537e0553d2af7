"""One optimizer step: forward, loss, backward, clip, update, average."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from normfree.data import Batch
from normfree.optim import warmup_cosine
from normfree.train.inputs import Inputs
from normfree.train.loss import correct, soft_labels, softmax_cross_entropy
from normfree.train.resolve import Resolved
from normfree.train.state import TrainState


class StepOutput(NamedTuple):
    """What a step measured, on the device.

    Attributes:
        loss: mean over the batch, before the update.
        correct: examples classified rightly, before the update.
    """

    loss: Float[Tensor, ""]
    correct: Int[Tensor, ""]


def learning_rate(resolved: Resolved, step: int) -> float:
    """Warm-up, then half a cosine; the first step, number 0, has rate 0, as the authors' has."""
    return warmup_cosine(
        step,
        peak=resolved.peak_lr,
        warmup_steps=resolved.warmup_steps,
        total_steps=resolved.total_steps,
    )


def train_step(state: TrainState, batch: Batch, resolved: Resolved, inputs: Inputs) -> StepOutput:
    """Update the state by one batch, without making the host wait for the device.

    The gradient is that of the mean loss over the whole batch, however many parts it is computed
    in; it is clipped once, when it is complete.

    Args:
        state: changed in place.
        batch: on any device.
        resolved: the configuration.
        inputs: brings images into the form the network takes.
    """
    recipe = resolved.recipe
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(resolved, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    total = StepOutput(
        torch.zeros((), device=resolved.device),
        torch.zeros((), dtype=torch.int64, device=resolved.device),
    )
    for part in _parts(batch, recipe.accumulate):
        output = _forward_backward(state, part, len(batch.labels), resolved, inputs)
        total = StepOutput(total.loss + output.loss, total.correct + output.correct)
    state.optimizer.step()
    state.ema.update(state.step)
    state.step += 1
    return total


def _forward_backward(
    state: TrainState, part: Batch, batch_size: int, resolved: Resolved, inputs: Inputs
) -> StepOutput:
    """Add the gradient of a part of the batch; returns its share of the batch's mean loss."""
    recipe = resolved.recipe
    images, labels, keys = inputs.train(part)
    low = torch.autocast(images.device.type, torch.bfloat16, recipe.precision == "bfloat16")
    with low:
        logits = state.forward(images, keys)
    targets = soft_labels(labels, resolved.model["num_classes"], recipe.label_smoothing)
    loss = softmax_cross_entropy(logits, targets).sum() / batch_size
    loss.backward()
    return StepOutput(loss.detach(), correct(logits.detach(), labels))


def _parts(batch: Batch, count: int) -> list[Batch]:
    return [Batch(*part) for part in zip(*(x.tensor_split(count) for x in batch), strict=True)]
