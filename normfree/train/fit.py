"""Train a recipe from its first step, or from where it stopped, to its last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from normfree.data.sources.folder import FolderSource
from normfree.data.sources.source import class_counts
from normfree.errors import UserError
from normfree.report.curves import plot_curves
from normfree.report.metrics import read_metrics
from normfree.train.build import build_card, build_engine, build_reader, build_state, build_step
from normfree.train.checkpoint import checkpoint_path, newest_checkpoint, read_checkpoint
from normfree.train.compilation import about_compilation
from normfree.train.engine import Engine
from normfree.train.init import init_fields, new_model, read_init
from normfree.train.loop import train_loop
from normfree.train.metrics import MetricsFile, NoMetricsFile
from normfree.train.progress import Progress
from normfree.train.recipe import Recipe
from normfree.train.resolve import Resolved, resolve
from normfree.train.restore import restore
from normfree.train.run import Reader, Run
from normfree.train.run_dir import RunDirectory, find_run_directory, new_run_directory
from normfree.train.run_files import RunFiles
from normfree.train.runtime import Runtime, open_runtime
from normfree.train.saved import differences, read_config, write_config
from normfree.train.sources import Sources, open_sources
from normfree.train.state import TrainState
from normfree.train.step import TrainStep
from normfree.weights import Parameters
from normfree.weights.card import ModelCard

_LISTED = 20  # unreadable images that are listed at the end of a run


@dataclass(frozen=True)
class Result:
    """What a finished run has produced.

    Attributes:
        directory: its files.
        steps: optimizer steps done.
        last: the last ``epoch`` line of its metrics, with those of the test images if there are
            any; empty if someone removed the lines.
        best: best validation accuracy, that of the weights in ``model.safetensors``.
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
        sources = open_sources(recipe.data.source, recipe.data.on_bad_image)
        recipe.compute.apply()
        with _started(recipe, sources, runtime) as start:
            run = _built(start, console if runtime.main else None)
            _say_start(run, start, sources)
            if runtime.main:
                start.directory.write_config(run.files.config)
            try:
                with run.progress:
                    train_loop(run)
            finally:
                run.reader.close()
                run.metrics.close()
                _say_unreadable(run)
            return _finish(run)


def _say_start(run: Run, start: _Start, sources: Sources) -> None:
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


class _Parts(NamedTuple):
    """What is built before anything is written: it shows whether the recipe can run."""

    engine: Engine
    resolved: Resolved
    state: TrainState
    step: TrainStep
    reader: Reader
    card: ModelCard


class _Start(NamedTuple):
    """Where a run begins, or resumes."""

    directory: RunDirectory
    parts: _Parts
    notes: list[str]


@contextmanager
def _started(recipe: Recipe, sources: Sources, runtime: Runtime) -> Iterator[_Start]:
    """What to train, and from where; within, no other process writes to the run's directory."""
    if _resumes(recipe, runtime):
        directory = runtime.first(lambda: find_run_directory(recipe.name, recipe.place.out))
        saved = read_config(directory.read_config(), directory.config)
        with directory.locked() if runtime.main else nullcontext():
            yield _resumed(recipe, sources, directory, saved, runtime)
        return
    weights = read_init(recipe.model.init)
    inferred = init_fields(recipe.model.name, weights)
    resolved = _resolved(recipe, sources, inferred, runtime)
    parts, notes = _parts(resolved, sources, weights, runtime)
    with ExitStack() as stack:
        make = new_run_directory(recipe.name, recipe.place.out)
        yield _Start(runtime.first(lambda: stack.enter_context(make)), parts, notes)


def _resumes(recipe: Recipe, runtime: Runtime) -> bool:
    """Whether to go on with a run: if the recipe says so, or the launcher started ranks again."""
    if recipe.place.resume or not runtime.launch.restarts:
        return recipe.place.resume
    out = recipe.place.out
    if out is None:
        raise UserError(
            "the launcher started the processes again, but without --out they do not know which "
            "run to go on with; give --out to torchrun's command"
        )
    return runtime.first(RunDirectory(out).config.exists)


def _resolved(
    recipe: Recipe, sources: Sources, inferred: Mapping[str, Any], runtime: Runtime
) -> Resolved:
    """The configuration, the same on all ranks."""
    resolved = resolve(
        recipe, *sources, inferred=inferred, device=runtime.device, world=runtime.world
    )
    changed = differences(runtime.first(lambda: resolved), resolved)
    if changed:
        raise UserError(
            f"rank {runtime.rank} has other settings or images than the main rank "
            f"({'; '.join(changed)}); start all with the same command and the same data"
        )
    return resolved


def _resumed(
    recipe: Recipe, sources: Sources, directory: RunDirectory, saved: Resolved, runtime: Runtime
) -> _Start:
    """From the newest checkpoint, if there is one yet; the weights of ``init`` are in it."""
    same = saved.model if saved.recipe.model.name == recipe.model.name else {}
    inferred = {name: value for name, value in same.items() if name != "name"}
    resolved = _resolved(recipe, sources, inferred, runtime)
    changed = differences(saved, resolved)
    if changed:
        raise UserError(
            f"{directory.path} is a run with other settings ({'; '.join(changed)}); "
            "resume it with its own, or start another one with another --out"
        )
    content, damaged = _newest(directory.checkpoints, runtime)
    notes = [f"skipped a damaged checkpoint: {path}" for path in damaged]
    weights = read_init(recipe.model.init) if content is None else None
    parts, said = _parts(resolved, sources, weights, runtime)
    if content is not None:
        restore(
            parts.state,
            content["state"],
            directory.checkpoints,
            resolved.total_steps,
            parts.engine,
        )
    resuming = f"going on after step {parts.state.step} of {resolved.total_steps}"
    return _Start(directory, parts, [*notes, *said, resuming])


def _newest(directory: Path, runtime: Runtime) -> tuple[dict[str, Any] | None, list[Path]]:
    """The newest checkpoint that the main rank can read, on all ranks."""
    content: dict[str, Any] | None = None

    def find() -> tuple[Path | None, list[Path]]:
        nonlocal content
        content, damaged = newest_checkpoint(directory)
        return None if content is None else checkpoint_path(directory, content["step"]), damaged

    path, damaged = runtime.first(find)
    if content is None and path is not None:  # on a machine that may not share the directory
        content = read_checkpoint(path)
    return content, damaged


def _parts(
    resolved: Resolved, sources: Sources, weights: Parameters | None, runtime: Runtime
) -> tuple[_Parts, list[str]]:
    """What is trained and read, and what to say about the weights."""
    recipe = resolved.recipe
    model, notes = new_model(resolved.model, resolved.classes, weights, seed=recipe.seed)
    engine = build_engine(recipe, runtime)
    state = build_state(resolved, model, engine)
    step = build_step(resolved, state, engine)
    reader = build_reader(resolved, sources, runtime)
    return _Parts(engine, resolved, state, step, reader, build_card(resolved)), notes


def _built(start: _Start, console: Console | None) -> Run:
    """Everything that the loop works with."""
    engine, resolved, state, step, reader, card = start.parts
    recipe, progress = resolved.recipe, Progress(console, resolved.span, state.step)
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
        step=step,
        reader=reader,
        loss=recipe.loss.kind,
        files=RunFiles(
            directory=start.directory,
            config=write_config(resolved),
            card=card,
            keep=recipe.loop.keep_checkpoints,
            engine=engine,
        ),
        metrics=MetricsFile(start.directory.metrics, after=state.step)
        if engine.runtime.main
        else NoMetricsFile(),
        progress=progress,
        engine=engine,
    )


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
    last = _last(read_metrics(directory.metrics))
    run.progress.note(_after_the_last_epoch(last, directory.metrics))
    run.progress.note(note)
    run.progress.note(f"best on validation ({run.state.best:.2%}): {directory.best}")
    if "test_top1" in last:
        run.progress.note(f"the same weights on the test images: {_share(last, 'test_top1')}")
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
    if "val_top1" not in last:
        return f"{metrics} has no accuracy after the last epoch: lines of it were removed"
    said = f"after the last epoch: validation {_share(last, 'val_top1')}"
    if "val_top1_ema" not in last:
        return said
    return f"{said}, averaged weights {_share(last, 'val_top1_ema')}"


def _share(line: dict[str, Any], name: str) -> str:
    """A share in percent, from a file that a person may have changed."""
    value = line[name]
    return f"{value:.2%}" if isinstance(value, int | float) else "unknown"
