"""What a run knows about its own health, and what it does about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from normfree.train.components.health import Health
from normfree.train.finite import NonFiniteError, parameters_not_finite
from normfree.train.health.clip_share import ClipShare
from normfree.train.health.gradients import GradientWatch
from normfree.train.health.spikes import SpikeDetector
from normfree.train.runtime import Runtime
from normfree.train.step import StepOutput

_MOST = 1000  # steps that are kept on the device unread


class Rewind(Exception):  # noqa: N818 - the run goes on
    """The run goes back to its last checkpoint, and on without the batch of a step.

    Args:
        step: from 0.
        reason: why.
    """

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


class _Unread(NamedTuple):
    """What a step measured, on the device."""

    step: int
    loss: Tensor
    norms: Tensor | None


class Monitor:
    """Watches loss and gradient of each step, and acts when somebody reads them anyway.

    Losses and gradient norms stay on the device until :meth:`inspect`: before a report, an
    evaluation or a checkpoint; and, where nothing has to be waited for, after each step. So a step
    that went wrong is noticed some steps late on a GPU, but before anything of it is saved.

    Args:
        settings: what to watch, and what to do.
        watch: of the gradients.
        runtime: the ranks.
        device: of the losses.
        say: prints a line.
        rate: step → learning rate, for messages.
    """

    def __init__(
        self,
        settings: Health,
        watch: GradientWatch,
        runtime: Runtime,
        *,
        device: torch.device | str,
        say: Callable[[str], None] = lambda text: None,
        rate: Callable[[int], float] = lambda step: math.nan,
    ) -> None:
        self.settings = settings
        self.watch = watch
        self.runtime = runtime
        self.say = say
        self.rate = rate
        self.free = runtime.world == 1 and torch.device(device).type == "cpu"
        self._norm: tuple[int, float | None] = (-1, None)  # of the last step that was read
        self._spikes = SpikeDetector(settings.spike_deviations)
        self._clipping = ClipShare()
        self._unread: list[_Unread] = []
        watch.on_skip = self._skipped

    def see(self, output: StepOutput, step: int) -> None:
        """Remember what a step (from 0) measured; the host does not wait."""
        if output.images:
            self._unread.append(_Unread(step, output.loss, self.watch.norms))
        if self.free or len(self._unread) >= _MOST:
            self.inspect()

    def inspect(self) -> None:
        """Look at the steps since the last time; here the host waits for the device.

        Raises:
            NonFiniteError: a loss or gradient is not finite, and the run stops at that, or cannot
                leave out more batches.
            Rewind: the run goes back.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        losses, squares = self._read(unread)
        for (step, _, norms), loss, square in zip(unread, losses, squares, strict=True):
            self._norm = (step, None if norms is None else math.sqrt(square))
            if not math.isfinite(loss) or not math.isfinite(square):
                self._not_finite(step, loss, norms)
            spike = self._spikes.see(step, loss)
            if spike is None or self.settings.on_loss_spike == "ignore":
                continue
            if self.settings.on_loss_spike == "rewind":
                self._rewind(step, str(spike))
            self.say(f"warning: {spike} (learning rate {self.rate(step):.4g})")

    def _read(self, unread: list[_Unread]) -> tuple[list[float], list[float]]:
        """Losses and squared gradient norms, of all ranks."""
        losses = torch.stack([one.loss.detach() for one in unread])
        zero = torch.zeros((), device=losses.device)
        shares = [zero if one.norms is None else self.watch.squares(one.norms) for one in unread]
        kind = torch.float32 if losses.device.type == "mps" else torch.float64
        both = torch.stack([losses.to(kind), torch.stack([x.to(kind) for x in shares])])
        summed = self.runtime.summed(both).tolist()
        return summed[0], summed[1]

    def report(self, line: dict[str, Any], steps: int, units: int) -> None:
        """Complete a ``train`` line, and say if clipping clips all or nothing.

        Args:
            line: with the means since the last one.
            steps: since then.
            units: that could have been clipped.
        """
        step, norm = self._norm
        line["grad_norm"] = norm if step == line["step"] - 1 else None  # that step was not taken
        line["skipped"] = self.watch.skipped.before(line["step"])
        advice = self._clipping.see(line["clipped"], steps) if units else None
        if advice is not None:
            self.say(f"warning: {advice}")

    def rewind(self, step: int) -> None:
        """Forget what came after some steps."""
        self._unread = []
        self._spikes.go_back(step)

    def _not_finite(self, step: int, loss: float, norms: Tensor | None) -> None:
        reason = self.watch.reason(loss, norms)
        if self.settings.on_nonfinite == "rewind":
            self._rewind(step, reason)
        what = "the loss" if not math.isfinite(loss) else "the gradient"
        raise NonFiniteError(what, step, self._details(reason, step))

    def _details(self, reason: str, step: int) -> str:
        """What else is known: here the run ends, so that the host may wait."""
        bad = parameters_not_finite(self.watch.params, self.watch.names, self.runtime)
        now = f"; now {len(bad)} of {len(self.watch.names)} parameters are not" if bad else ""
        first = f", {bad[0]} first" if bad else ""
        return f"{reason}, learning rate {self.rate(step):.4g}{now}{first}"

    def _skipped(self, step: int, reason: str) -> None:
        """A step was refused."""
        self._leave_out(step, reason)
        self.say(f"step {step} is not taken: {reason} ({self._count()})")

    def _rewind(self, step: int, reason: str) -> None:
        self._leave_out(step, reason)
        raise Rewind(step, f"{reason} ({self._count()})")

    def _leave_out(self, step: int, reason: str) -> None:
        """Record a step that is left out, the same on all ranks.

        Raises:
            NonFiniteError: there are too many.
        """
        skipped, settings = self.watch.skipped, self.settings
        skipped.add(step, reason)
        for name, count, most in (
            ("--max-skipped", len(skipped), settings.max_skipped),
            ("--max-skipped-in-a-row", skipped.in_a_row(step), settings.max_skipped_in_a_row),
        ):
            if count > most:
                raise NonFiniteError("training", step, f"{reason}; {name} is {most}")

    def _count(self) -> str:
        return f"{len(self.watch.skipped)} of at most {self.settings.max_skipped} left out"
