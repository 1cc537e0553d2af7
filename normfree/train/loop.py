"""The training loop: all that happens between the first and the last step of a run."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from itertools import islice
from typing import Any

from jaxtyping import Float
from torch import Tensor

from normfree.errors import BadImageError, UserError
from normfree.report.choice import AVERAGED, RAW, choose
from normfree.train.agreement import Agreement, Wish
from normfree.train.cadence import Cadence
from normfree.train.finite import check_weights
from normfree.train.health.monitor import Rewind
from normfree.train.keeping import NO_MARK, Mark
from normfree.train.progress import Stopwatch, duration
from normfree.train.rewind import without_step
from normfree.train.run import Run
from normfree.train.shared_reading import SAVABLE, StoppedReading
from normfree.train.signals import StopRequest, interrupted
from normfree.train.transfer import uploaded
from normfree.train.waiting import DataWait


def train_loop(run: Run) -> None:
    """Train from the state's step to the last; report, evaluate and save on the way.

    Between two reports the host never waits for the device.

    Raises:
        NonFiniteError: the loss or a weight is not finite; nothing of it was saved.
        UserError: there is no room for checkpoints, or a file cannot be written.
        Interrupted: a signal asked to stop; the checkpoint of the step that was running is saved.
        UserError: an image, or too many of them, cannot be read, or reading processes died; the
            steps before are saved.
        EndedElsewhere: that was on another rank.
    """
    if run.guards.rewinds and run.state.step == 0:
        save(run)  # to go back to
    try:
        while True:
            try:
                return _steps(run)
            except Rewind as bad:
                without_step(run, bad)
    except (*SAVABLE, StoppedReading) as error:  # on all ranks, at the same step
        with suppress(Rewind):  # the checkpoint to go back to is there
            save(run)
        run.files.writer.wait()
        if not isinstance(error, BadImageError):
            raise
        raise UserError(
            f"cannot read image {error.name}: {error.reason}; step {run.state.step} is saved: fix "
            f"the image and go on with: normfree train --resume --out {run.files.directory.path}, "
            "or without it by adding --on-bad-image skip"
        ) from error


def _steps(run: Run) -> None:
    state, span, loop = run.state, run.span, run.loop
    health, watchdog, wait = run.guards.monitor, run.guards.watchdog, DataWait(run.reader.count)
    stopwatch, epoch_began = Stopwatch(), time.perf_counter()
    cadence, mark = Cadence(loop), NO_MARK
    first = state.step
    ended = span.epoch_ended(first)
    if ended is not None and state.epoch.steps:  # an unreadable image ended the evaluation
        save(run, _end_epoch(run, ended, epoch_began))
    read = run.reading.steps(wait.measured(run.reader.train(state.step)), run.accumulate)
    reading = uploaded(read, run.step.transform.device)
    with (
        StopRequest() as stop,
        closing(reading) as micro_batches,
        closing(Agreement(run.runtime)) as agreement,
    ):
        while state.step < span.steps:
            watchdog.beat("training", state.step)
            output = run.step(islice(micro_batches, run.accumulate))
            run.files.writer.check()
            if run.compiles and state.step == first + 1:
                stopwatch.skip(_say_compiled(run, output.loss, epoch_began))
            health.see(output, state.step - 1)
            for accumulator in (state.window, state.epoch):
                accumulator.add(**output._asdict())
            run.progress.advance()
            if state.step % loop.log_every == 0:
                _report(run, stopwatch, wait)
                _look_at_disk(run)
            ended = span.epoch_ended(state.step)
            if ended is not None:
                began = time.perf_counter()
                mark = _end_epoch(run, ended, epoch_began)
                epoch_began = time.perf_counter()
                stopwatch.skip(epoch_began - began)
            last = state.step == span.steps
            asked = agreement.on(Wish(stop.signum, run.runtime.main and cadence.overdue()))
            if any(asked) or cadence.due(state.step, ended, last=last):
                save(run, mark if ended else NO_MARK)
                cadence.saved()
            if asked.signum and not last:
                run.files.writer.wait()
                raise interrupted(asked.signum, state.step, run.files.directory.path)
    run.files.writer.wait()
    _test(run)


def _say_compiled(run: Run, loss: Float[Tensor, ""], began: float) -> float:
    """Say how long the first step took, and return it: it is not the speed of the run."""
    loss.item()  # once, the host waits for the device
    seconds = time.perf_counter() - began
    run.progress.note(f"compiled: the first step took {duration(seconds)}")
    return seconds


def _report(run: Run, stopwatch: Stopwatch, wait: DataWait) -> None:
    """A ``train`` line: the means since the last one."""
    run.guards.monitor.inspect()
    window, step = run.state.window, run.state.step
    seconds, waited = stopwatch.lap(), wait.lap()
    line = {
        "kind": "train",
        "step": step,
        "epoch": step / run.span.steps_per_epoch,
        **window.read(run.runtime),
        "lr": run.step.schedule(step - 1),
        "images_per_second": window.images / seconds,
        "data_wait": min(waited / seconds, 1.0),
    }
    run.guards.monitor.report(line, window.steps, window.units)
    advice = wait.advice(waited, seconds, window.images)
    window.reset()
    run.metrics.write(**line)
    run.progress.report(line)
    if advice is not None:
        run.progress.note(advice)


def _end_epoch(run: Run, epoch: int, began: float) -> Mark:
    """An ``epoch`` line, with an evaluation if one is due; the best weights are kept."""
    accuracy = None
    run.guards.monitor.inspect()
    state, final = run.state, run.state.step == run.span.steps
    means = state.epoch.read(run.runtime)  # here the host waits for the last step
    trained = time.perf_counter()
    line: dict[str, Any] = {
        "kind": "epoch",
        "step": state.step,
        "epoch": epoch,
        "train_loss": means["loss"],
        "train_accuracy": means["accuracy"],
    }
    if final or epoch % run.loop.eval_every == 0:
        check_weights(state.model, state.step, run.runtime)
        line |= run.validate()
        accuracy = _keep_better(run, line)
        if final:
            run.files.save_weights(run.files.directory.last, state.deployed, line)
    state.epoch.reset()
    line["seconds"] = trained - began
    if accuracy is not None:
        line["eval_seconds"] = time.perf_counter() - trained
    run.metrics.write(**line)
    run.progress.report_epoch(line)
    return Mark(epoch, accuracy)


def _keep_better(run: Run, line: dict[str, Any]) -> float | None:
    """Keep the better of raw and averaged weights, if none were as good before.

    Returns:
        The score of the deployed weights, which a checkpoint of this step is read as.
    """
    state, chosen = run.state, choose(line)
    assert chosen is not None
    if chosen.other is not None:
        line["better"] = chosen.weights
    if chosen.score >= state.best:
        state.best = chosen.score
        better = state.model if chosen.weights == RAW else state.deployed
        run.files.save_weights(run.files.directory.best, better, line)
    return chosen.score if chosen.weights == AVERAGED or chosen.other is None else chosen.other


def _test(run: Run) -> None:
    """A ``test`` line: the weights that validation chose, on the test images, once the run ends."""
    step = run.state.step
    if run.reader.test is None or run.runtime.first(lambda: run.metrics.has("test", step)):
        return
    line = {"kind": "test", "step": step, **run.test(run.reader.test())}
    run.metrics.write(**line)
    run.metrics.sync()


def save(run: Run, mark: Mark = NO_MARK) -> None:
    """Begin to write a checkpoint, unless the weights are not finite or there is no room."""
    run.guards.monitor.inspect()
    check_weights(run.state.model, run.state.step, run.runtime)
    run.files.writer.wait()  # it may be taking the room that is looked for
    problem = run.runtime.first(run.guards.disk.problem)
    if problem is not None:
        raise UserError(problem)
    run.guards.watchdog.beat("saving")
    run.metrics.sync()
    run.files.save_checkpoint(run.state, mark)


def _look_at_disk(run: Run) -> None:
    """Say when the disk fills up; while there is room for a last checkpoint, end with that."""
    disk, writer = run.guards.disk, run.files.writer
    warning, is_full = run.runtime.first(lambda: (None, False) if writer.busy else disk.look())
    if is_full:
        save(run)
        writer.wait()
        raise UserError(disk.ending(run.state.step, run.files.directory.path))
    if warning is not None:
        run.progress.note(f"warning: {warning}")
