"""The training loop: all that happens between the first and the last step of a run."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, cast

from normfree.errors import BadImageError, UserError
from normfree.inference import evaluate
from normfree.models import ImageClassifier
from normfree.train.card import make_card
from normfree.train.checkpoint import save_checkpoint
from normfree.train.finite import LossWatch, check_weights
from normfree.train.progress import Stopwatch
from normfree.train.resolve import to_dict
from normfree.train.run import Run
from normfree.train.signals import Interrupted, StopRequest
from normfree.train.step import learning_rate, train_step
from normfree.weights import plain_card, save_model


def train_loop(run: Run) -> None:
    """Train from the state's step to the last; report, evaluate and save on the way.

    Between two reports the host never waits for the device.

    Raises:
        NonFiniteError: the loss or a weight is not finite; nothing of it was saved.
        Interrupted: a signal asked to stop; the checkpoint of the step that was running is saved.
        UserError: an image cannot be read; the steps before it are saved.
    """
    try:
        _steps(run)
    except BadImageError as error:
        save(run)
        raise UserError(
            f"cannot read image {error.name}: {error.reason}; step {run.state.step} is saved: mend "
            f"the image and go on with: normfree train --resume --out {run.directory.path}, "
            "or without it by adding --on-bad-image skip"
        ) from error


def _steps(run: Run) -> None:
    state, resolved, recipe = run.state, run.resolved, run.resolved.recipe
    last = {resolved.epoch_end(epoch): epoch for epoch in range(1, resolved.epochs + 1)}
    watch, stopwatch, epoch_began = LossWatch(resolved.device), Stopwatch(), time.perf_counter()
    if state.step in last and state.epoch.steps:  # an unreadable test image ended the evaluation
        _end_epoch(run, last[state.step], 0.0)
        save(run)
    with StopRequest() as stop, closing(run.micro_batches()) as batches:
        while state.step < resolved.total_steps:
            micro_batches = islice(batches, recipe.accumulate)
            output = train_step(state, micro_batches, resolved, run.transform)
            watch.see(output.loss, state.step - 1)
            for accumulator in (state.window, state.epoch):
                accumulator.add(**output._asdict())
            run.progress.advance()
            if state.step % recipe.log_every == 0:
                watch.check()
                _report(run, stopwatch)
            epoch = last.get(state.step)
            if epoch is not None:
                watch.check()
                began = time.perf_counter()
                _end_epoch(run, epoch, began - epoch_began)
                epoch_began = time.perf_counter()
                stopwatch.skip(epoch_began - began)
            if stop.signum or epoch is not None or state.step % recipe.checkpoint_every == 0:
                watch.check()
                save(run)
            if stop.signum and state.step < resolved.total_steps:
                raise Interrupted(stop.signum, state.step, run.directory.path)


def _report(run: Run, stopwatch: Stopwatch) -> None:
    """A ``train`` line: the means since the last one."""
    window, resolved = run.state.window, run.resolved
    line = {
        "kind": "train",
        "step": run.state.step,
        "epoch": run.state.step / resolved.steps_per_epoch,
        **window.read(),
        "lr": learning_rate(resolved, run.state.step - 1),
        "images_per_second": window.images / stopwatch.lap(),
    }
    window.reset()
    run.metrics.write(**line)
    run.progress.report(line)


def _end_epoch(run: Run, epoch: int, seconds: float) -> None:
    """An ``epoch`` line, with an evaluation if one is due; the best averaged weights are kept."""
    state, recipe = run.state, run.resolved.recipe
    means = state.epoch.read()
    line: dict[str, Any] = {
        "kind": "epoch",
        "step": state.step,
        "epoch": epoch,
        "train_loss": means["loss"],
        "train_accuracy": means["accuracy"],
    }
    if epoch % recipe.eval_every == 0 or state.step == run.resolved.total_steps:
        check_weights(state.model, state.step)
        evaluations = evaluate(
            {"": state.model, "_ema": state.ema.model},
            run.test_batches(),
            run.inputs.evaluation,
            recipe.loss,
        )
        for suffix, evaluation in evaluations.items():
            line |= {f"test_{name}{suffix}": value for name, value in evaluation.metrics.items()}
        if evaluations["_ema"]["top1"] >= state.best:
            state.best = evaluations["_ema"]["top1"]
            card = make_card(run.resolved, line)
            save_model(cast(ImageClassifier, state.ema.model), run.directory.model, card=card)
    state.epoch.reset()
    line["seconds"] = seconds
    run.metrics.write(**line)
    run.progress.report_epoch(line)


def save(run: Run) -> None:
    """Write a checkpoint, unless the weights are not finite."""
    check_weights(run.state.model, run.state.step)
    run.metrics.sync()
    save_checkpoint(
        run.directory.checkpoints,
        {
            "config": to_dict(run.resolved),
            "card": plain_card(make_card(run.resolved, {})),
            "state": run.state.state_dict(),
        },
        step=run.state.step,
        keep=run.resolved.recipe.keep_checkpoints,
    )
