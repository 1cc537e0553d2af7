"""Train a recipe from its first step, or from where it stopped, to its last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from normfree.data.sources.folder import FolderSource
from normfree.data.sources.source import class_counts
from normfree.report.choice import AVERAGED, kept
from normfree.report.curves import plot_curves
from normfree.report.metrics import HEADLINES, headline, read_metrics
from normfree.train.compilation import about_compilation
from normfree.train.health.guards import build_guards
from normfree.train.health.memory import enough_memory
from normfree.train.loop import train_loop
from normfree.train.metrics import MetricsFile, NoMetricsFile, Tee
from normfree.train.progress import Progress
from normfree.train.recipe import Recipe
from normfree.train.reporting import evaluate_mistakes, note_environment, report
from normfree.train.resolve import Resolved
from normfree.train.run import Run
from normfree.train.run_files import RunFiles
from normfree.train.runtime import Runtime, open_runtime
from normfree.train.saved import write_config
from normfree.train.sources import Sources, open_sources
from normfree.train.start import Start, started
from normfree.train.telemetry import TelemetrySink
from normfree.train.trackers import trackers
from normfree.train.writer import CheckpointWriter

_LISTED = 20  # unreadable images that are listed at the end of a run


@dataclass(frozen=True)
class Result:
    """What a finished run has produced.

    Attributes:
        directory: its files.
        steps: optimizer steps done.
        last: the last ``epoch`` line of its metrics, with those of the test images if there are
            any; empty if someone removed the lines.
        best: best validation accuracy, that of the weights in ``model.safetensors``; of images
            with several labels each, their mean average precision.
        unreadable: the images that were skipped.

    Ranks other than the main one know neither the last line nor the unreadable images.
    """

    directory: Path
    steps: int
    last: dict[str, Any]
    best: float
    unreadable: tuple[str, ...]


def fit(recipe: Recipe, console: Console | None = None) -> Result:
    """Train a recipe.

    Args:
        recipe: all settings; with ``resume`` an interrupted run of the same settings goes on, to
            the same bits as if it had never stopped.
        console: where to report; None is silent.

    Raises:
        UserError: what a person can fix, from an unknown name to a loss that is not finite.
        Interrupted: SIGINT or SIGTERM asked to stop; a checkpoint is saved.

    Example:
        >>> import tempfile
        >>> from normfree.train.components import Data, Network
        >>> recipe = Recipe(
        ...     data=Data(source="synthetic:32x8x1x4"), model=Network(name="nfnet_pico")
        ... ).override(augment="none", epochs=1, batch_size=16, out=Path(tempfile.mkdtemp()))
        >>> fit(recipe).steps
        2
    """
    with open_runtime(recipe.compute.device, recipe.ranks) as runtime:
        data = recipe.data
        sources = open_sources(data.source, data.on_bad_image, data.val_fraction)
        recipe.compute.apply()
        with started(recipe, sources, runtime) as start:
            run = _built(start, console if runtime.main else None)
            _say_start(run, start, sources)
            if runtime.main:
                start.directory.write_config(run.files.config)
                note_environment(start.directory)
            try:
                memory = enough_memory(start.parts.resolved, runtime.world)
                writing = run.files.writer.closing()
                with run.progress, run.guards.watchdog, memory, writing:
                    train_loop(run)
                evaluate_mistakes(run)
            finally:
                run.reader.close()
                run.metrics.close()
                _say_unreadable(run)
            return _finish(run)


def _say_start(run: Run, start: Start, sources: Sources) -> None:
    resolved = start.parts.resolved
    run.progress.show_derivation(resolved)
    for note in (
        f"run directory: {start.directory.path}",
        *_about_data(sources),
        *run.reader.notes,
        *_about_schedule(resolved),
        *_about_ranks(resolved.recipe, run.runtime),
        *about_compilation(resolved.recipe.compute.compile),
        *start.notes,
    ):
        run.progress.note(note)


def _built(start: Start, console: Console | None) -> Run:
    """Everything that the loop works with."""
    engine, resolved, state, step, reader, card = start.parts
    recipe, progress = resolved.recipe, Progress(console, resolved.span, state.step)
    guards = build_guards(
        recipe,
        state,
        step,
        directory=start.directory,
        store=start.store,
        engine=engine,
        say=progress.note,
    )
    if engine.runtime.main:
        reader.bad_images.keep(start.directory.bad_images)
    if reader.workers is not None:
        reader.workers.say = progress.note
    return Run(
        span=resolved.span,
        accumulate=recipe.batch.accumulate,
        compiles=recipe.compute.compile,
        loop=recipe.loop,
        state=state,
        step=replace(step, watch=guards.monitor.watch),
        reader=reader,
        loss=recipe.loss.kind,
        files=RunFiles(
            directory=start.directory,
            config=write_config(resolved),
            card=card,
            writer=CheckpointWriter(start.store, engine.runtime, recipe.loop),
            engine=engine,
        ),
        metrics=_sinks(start),
        progress=progress,
        engine=engine,
        guards=guards,
    )


def _sinks(start: Start) -> MetricsFile:
    """What becomes of each line of the metrics."""
    engine, resolved, state, step, *_ = start.parts
    file = (
        MetricsFile(start.directory.metrics, after=state.step)
        if engine.runtime.main
        else NoMetricsFile()
    )
    others: list[MetricsFile] = []
    if step.telemetry is not None:
        path = start.directory.telemetry
        others.append(TelemetrySink(step.telemetry, path, engine, after=state.step))
    if engine.runtime.main:
        config = write_config(resolved)
        others += trackers(resolved.recipe.loop, start.directory.path, config, state.step)
    return Tee(file, others)


def _about_data(sources: Sources) -> list[str]:
    """What to say of files that are not used, and of classes that are not evaluated."""
    notes = [note for source in sources for note in getattr(source, "notes", ())]
    folders = [source for source in sources if isinstance(source, FolderSource)]
    ignored = sum(source.ignored for source in folders)
    if ignored:
        notes.append(
            f"{ignored} files ignored: not named like an image, or outside the class directories"
        )
    classes = sources.train.classes
    missing = np.flatnonzero(class_counts(sources.val.labels, len(classes)) == 0).tolist()
    if missing:
        notes.append(
            f"{len(missing)} of {len(classes)} classes have no validation images, so the accuracy "
            f"does not cover them: {', '.join(classes[label] for label in missing[:20])}"
        )
    return notes


def _about_schedule(resolved: Resolved) -> list[str]:
    """A warning if the learning rate never reaches its peak."""
    if resolved.warmup_steps <= resolved.total_steps:
        return []
    return [
        f"warning: the warm-up of {resolved.warmup_steps:.0f} steps is longer than the run of "
        f"{resolved.total_steps}, so the learning rate never reaches its peak; lower "
        "--warmup-epochs or --warmup-steps"
    ]


def _about_ranks(recipe: Recipe, runtime: Runtime) -> list[str]:
    """How many processes share a batch."""
    if runtime.world == 1:
        return []
    micro = recipe.batch.size / (recipe.batch.accumulate * runtime.world)
    return [
        f"{runtime.world} processes, {recipe.ranks.kind}: {recipe.batch.accumulate} micro-batches "
        f"of about {micro:.0f} images on each"
    ]


def _say_unreadable(run: Run) -> None:
    bad = run.reader.bad_images
    if bad.count:
        run.progress.note(f"{bad.count} images could not be read and were skipped:")
        for name, reason in list(bad.reasons.items())[:_LISTED]:
            run.progress.note(f"  {name}: {reason}")
        if bad.count > _LISTED:
            run.progress.note(f"  … all of them in {bad.file}")


def _finish(run: Run) -> Result:
    """Plot the curves and say what there is now."""
    directory = run.files.directory
    if not run.runtime.main:
        return Result(directory.path, run.state.step, {}, run.state.best, ())
    note = plot_curves(directory.metrics, directory.curves)
    lines = read_metrics(directory.metrics)
    last = _last(lines)
    run.progress.note(_after_the_last_epoch(last, directory.metrics))
    run.progress.note(note)
    if run.loop.report:
        run.progress.note(report(directory))
    said = f"best on validation ({run.state.best:.2%}): {directory.best}"
    run.progress.note(said + _which_weights(lines))
    if tested := next((name for name in HEADLINES if f"test_{name}" in last), None):
        share = _share(last, f"test_{tested}")
        run.progress.note(f"the same weights on the test images: {share}")
    return Result(
        directory=directory.path,
        steps=run.state.step,
        last=last,
        best=run.state.best,
        unreadable=run.reader.bad_images.names,
    )


def _last(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The last ``epoch`` line with what was measured on the test images; empty without a line."""
    epochs = [line for line in lines if line["kind"] == "epoch"]
    last = dict(epochs[-1]) if epochs else {}
    for line in lines:
        if line["kind"] == "test":
            last |= {name: value for name, value in line.items() if name.startswith("test_")}
    return last


def _after_the_last_epoch(last: dict[str, Any], metrics: Path) -> str:
    """What to say of the last epoch."""
    metric = headline(last)
    if metric is None:
        return f"{metrics} has no accuracy after the last epoch: lines of it were removed"
    called = "" if metric == "top1" else f"{HEADLINES[metric]} "
    said = f"after the last epoch: validation {called}{_share(last, f'val_{metric}')}"
    if f"val_{metric}_ema" not in last:
        return said
    return f"{said}, averaged weights {_share(last, f'val_{metric}_ema')}"


def _which_weights(lines: list[dict[str, Any]]) -> str:
    """Whether raw or averaged weights were kept, and of which epoch."""
    found = kept(lines)
    if found is None:
        return ""
    epoch, chosen = found
    others = "raw" if chosen.weights == AVERAGED else "averaged"
    return f", the {chosen.weights} weights of epoch {epoch} ({others}: {chosen.other:.2%})"


def _share(line: dict[str, Any], name: str) -> str:
    """A share in percent, from a file that a person may have changed."""
    value = line[name]
    return f"{value:.2%}" if isinstance(value, int | float) else "unknown"
