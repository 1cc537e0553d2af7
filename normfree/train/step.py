"""One optimizer step: gradient, clip, update, average."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from normfree.data import MicroBatch
from normfree.optim import warmup_cosine
from normfree.optim.schedules import warmup_exponential
from normfree.train.device_transform import DeviceTransform
from normfree.train.gradient import batch_gradient
from normfree.train.loss import LOSSES
from normfree.train.optimizer import update
from normfree.train.resolve import Resolved
from normfree.train.state import TrainState


class StepOutput(NamedTuple):
    """What a step measured, on the device but for what is counted on the host.

    Attributes:
        loss: mean over the batch, see :class:`~normfree.train.gradient.Measured`.
        correct: examples classified rightly in the same pass.
        images: examples of the batch.
        clipped: units (tensors, gradients) that were clipped.
        units: how many could have been.
    """

    loss: Float[Tensor, ""]
    correct: Int[Tensor, ""]
    images: int
    clipped: Int[Tensor, ""]
    units: int


def learning_rate(resolved: Resolved, step: int) -> float:
    """Warm-up, then the schedule; the first step, number 0, has rate 0, as the authors' has."""
    recipe = resolved.recipe
    if recipe.schedule == "step":
        return warmup_exponential(
            step,
            peak=resolved.peak_lr,
            warmup_steps=resolved.warmup_steps,
            decay_rate=recipe.step_decay,
            decay_steps=recipe.step_epochs * resolved.steps_per_epoch,
            floor=recipe.lr_floor,
        )
    return warmup_cosine(
        step,
        peak=resolved.peak_lr,
        warmup_steps=resolved.warmup_steps,
        total_steps=resolved.total_steps,
        floor=recipe.lr_floor,
    )


def train_step(
    state: TrainState,
    micro_batches: Iterable[MicroBatch],
    resolved: Resolved,
    transform: DeviceTransform,
) -> StepOutput:
    """Update the state by one batch, without making the host wait for the device.

    The gradient is that of the mean loss over the whole batch, however many micro-batches it is
    computed in; it is clipped once, when it is complete.

    Args:
        state: changed in place.
        micro_batches: of this step, on the host.
        resolved: the configuration.
        transform: what is done to them on the device.
    """
    recipe = resolved.recipe
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(resolved, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    measured = batch_gradient(
        lambda images, keys: state.forward(transform.normalized(images), keys),
        map(transform, micro_batches),
        batch_size=recipe.batch_size,
        loss=LOSSES[recipe.loss],
        autocast=torch.bfloat16 if recipe.precision == "bfloat16" else None,
        sam=state.sam,
        scope="batch" if recipe.sam_scope == "batch" else "micro_batch",
        statistics=list(state.model.buffers()),
    )
    clipped, units = update(state.optimizer, resolved)
    state.ema.update(state.step)
    state.step += 1
    return StepOutput(*measured, recipe.batch_size, clipped, units)
