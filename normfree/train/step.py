"""One optimizer step: gradient, clip, update, average."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from normfree.analysis.telemetry import Telemetry
from normfree.data import MicroBatch
from normfree.data.ascent import AscentScope
from normfree.optim.clip_record import ClipRecord
from normfree.train.device_transform import DeviceTransform
from normfree.train.engine import Engine
from normfree.train.gradient import ALONE, Measured, SummedLoss, batch_gradient
from normfree.train.state import TrainState


class StepOutput(NamedTuple):
    """What a step measured, on the device but for what is counted on the host.

    Of several ranks, all but ``images`` is this rank's share; the shares add up.

    Attributes:
        loss: mean over the batch, see :class:`~normfree.train.gradient.Measured`.
        correct: examples that the same pass classified correctly.
        images: examples of the batch.
        clipped: units (tensors, gradients) that were clipped.
        units: number of units eligible for clipping.
    """

    loss: Float[Tensor, ""]
    correct: Int[Tensor, ""]
    images: int
    clipped: Int[Tensor, ""]
    units: int


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """Update the state by one batch, without making the host wait for the device.

    The gradient is that of the mean loss over the whole batch, however many micro-batches it is
    computed in; it is clipped once, when it is complete.

    Args:
        state: changed in place.
        transform: what is done to micro-batches on the device.
        schedule: step, from 0 → learning rate. The authors' first step has rate 0.
        loss_of: from augmented images to their summed loss; compiled if the recipe says so.
        batch_size: examples of a step, over all micro-batches.
        scope: what ascends together, with sharpness-aware minimization.
        one_backward: whether the gradient is complete after one backward pass; weights are then
            updated while it runs, where the optimizer can, with the same bits in less memory.
        engine: how several ranks make one step.
        count: micro-batches of this rank; None where that does not matter.
        passes: forward passes of the ascent, the same number on all ranks; None: as few as can be.
        telemetry: measures the updates; None measures nothing.
    """

    state: TrainState
    transform: DeviceTransform
    schedule: Callable[[int], float]
    loss_of: SummedLoss
    batch_size: int
    scope: AscentScope = "batch"
    one_backward: bool = False
    engine: Engine = ALONE
    count: int | None = None
    passes: int | None = None
    telemetry: Telemetry | None = None

    def __call__(self, micro_batches: Iterable[MicroBatch]) -> StepOutput:
        """Take the micro-batches of a step, on the host, one at a time."""
        state = self.state
        for group in state.optimizer.param_groups:
            group["lr"] = self.schedule(state.step)
        state.optimizer.zero_grad(set_to_none=True)
        telemetry = self.telemetry
        with nullcontext() if telemetry is None else telemetry.watching(state.step):
            measured, record = self._updated(micro_batches)
        if telemetry is not None:
            telemetry.add(record)
        clipped = self.engine.count(record)
        state.step += 1
        return StepOutput(
            *measured,
            images=self.batch_size,
            clipped=clipped.clipped_units,
            units=clipped.total_units,
        )

    def _updated(self, micro_batches: Iterable[MicroBatch]) -> tuple[Measured, ClipRecord]:
        """Move the weights along the gradient; says what was measured and what was clipped."""
        state = self.state
        if self.one_backward and state.update.works_in_backward:
            with state.update.in_backward(state.ema, state.step) as record:
                measured = self._gradient(micro_batches)
            return measured, record
        measured = self._gradient(micro_batches)
        return measured, state.update(state.ema, state.step)

    def _gradient(self, micro_batches: Iterable[MicroBatch]) -> Measured:
        """The gradient of the whole batch, on all ranks."""
        statistics = list(self.state.model.buffers())
        measured = batch_gradient(
            self.loss_of,
            map(self.transform, micro_batches),
            batch_size=self.batch_size,
            sam=self.state.sam,
            scope=self.scope,
            statistics=statistics,
            engine=self.engine,
            count=self.count,
            passes=self.passes,
        )
        self.engine.complete(self.state.model.parameters())
        self.engine.settle(statistics)
        return measured
