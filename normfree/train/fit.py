"""Train a recipe from its first step, or from where it stopped, to its last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from normfree.data import Source, open_source
from normfree.data.sources.folder import FolderSource
from normfree.errors import UserError
from normfree.report.curves import plot_curves
from normfree.train.checkpoint import newest_checkpoint, restore
from normfree.train.config import Recipe
from normfree.train.init import init_fields, new_model, read_init
from normfree.train.inputs import make_transform
from normfree.train.loop import train_loop
from normfree.train.metrics import MetricsFile, read_metrics
from normfree.train.progress import Progress
from normfree.train.resolve import Resolved, differences, from_dict, resolve, to_dict
from normfree.train.run import Run
from normfree.train.run_dir import RunDirectory, create_run_directory, find_run_directory
from normfree.train.state import TrainState, build_state


@dataclass(frozen=True)
class Result:
    """What a finished run has produced.

    Attributes:
        directory: its files.
        steps: optimizer steps done.
        last: the last ``epoch`` line of its metrics.
        best: best test accuracy of the averaged weights, those in ``model.safetensors``.
        unreadable: the images that were skipped.
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
        UserError: what a person can mend, from an unknown name to a loss that is not finite.
        Interrupted: SIGINT or SIGTERM asked to stop; a checkpoint is saved.

    Example:
        >>> import tempfile
        >>> recipe = Recipe(
        ...     model="nfnet_pico", data="synthetic:32x8x1x4", augment="none",
        ...     epochs=1, batch_size=16, out=Path(tempfile.mkdtemp()),
        ... )
        >>> fit(recipe).steps
        2
    """
    train, test = open_source(recipe.data, "train"), open_source(recipe.data, "val")
    start = _resumed(recipe, train, test) if recipe.resume else _fresh(recipe, train, test)
    directory, resolved, state = start.directory, start.resolved, start.state
    progress = Progress(console, resolved, state.step)
    progress.show_derivation()
    for note in (f"run directory: {directory.path}", *_about_data(train, test), *start.notes):
        progress.note(note)
    directory.write_config(to_dict(resolved))
    run = Run(
        resolved=resolved,
        directory=directory,
        train=train,
        test=test,
        transform=make_transform(resolved),
        state=state,
        metrics=MetricsFile(directory.metrics, after=state.step),
        progress=progress,
    )
    try:
        with progress:
            train_loop(run)
    finally:
        run.metrics.close()
        _say_unreadable(run)
    return _finish(run)


def _about_data(train: Source, test: Source) -> list[str]:
    """What to say of files that are not used, and of classes that are not tested."""
    notes = []
    sources = (train, test)
    ignored = sum(source.ignored for source in sources if isinstance(source, FolderSource))
    if ignored:
        notes.append(f"{ignored} files passed over: not images by their ending, or in no class")
    untested = sorted(set(range(len(train.classes))) - set(test.labels.tolist()))
    if untested:
        notes.append(
            f"{len(untested)} of {len(train.classes)} classes have no test images, the accuracy "
            f"does not speak of them: {', '.join(train.classes[label] for label in untested)}"
        )
    return notes


class _Start(NamedTuple):
    """Where a run begins, or goes on."""

    directory: RunDirectory
    resolved: Resolved
    state: TrainState
    notes: list[str]


def _fresh(recipe: Recipe, train: Source, test: Source) -> _Start:
    weights = read_init(recipe)
    resolved = resolve(recipe, train, test, init_fields(recipe, weights))
    model, notes = new_model(resolved, weights)
    return _Start(create_run_directory(recipe), resolved, build_state(resolved, model), notes)


def _resumed(recipe: Recipe, train: Source, test: Source) -> _Start:
    """From the newest checkpoint, if there is one yet; the weights of ``init`` are in it."""
    directory = find_run_directory(recipe)
    saved = from_dict(directory.read_config())
    same = saved.model if saved.recipe.model == recipe.model else {}
    told = {name: value for name, value in same.items() if name != "name"}
    resolved = resolve(recipe, train, test, told)
    changed = differences(saved, resolved)
    if changed:
        raise UserError(
            f"{directory.path} is a run of other settings ({'; '.join(changed)}); "
            "resume it with its own, or start anew with another --out"
        )
    content, damaged = newest_checkpoint(directory.checkpoints)
    notes = [f"damaged, passed over: {path}" for path in damaged]
    model, said = new_model(resolved, read_init(recipe) if content is None else None)
    state = build_state(resolved, model)
    if content is not None:
        restore(state, content["state"], directory.checkpoints)
    going_on = f"going on after step {state.step} of {resolved.total_steps}"
    return _Start(directory, resolved, state, [*notes, *said, going_on])


def _say_unreadable(run: Run) -> None:
    bad = run.bad_images
    if bad.count:
        run.progress.note(f"{bad.count} images could not be read and were skipped:")
        for name, reason in bad.reasons.items():
            run.progress.note(f"  {name}: {reason}")


def _finish(run: Run) -> Result:
    """Plot the curves and say what there is now."""
    note = plot_curves(run.directory.metrics, run.directory.curves)
    last = [line for line in read_metrics(run.directory.metrics) if line["kind"] == "epoch"][-1]
    for text in (
        f"after the last epoch: test {last['test_top1']:.2%}, averaged weights "
        f"{last['test_top1_ema']:.2%}",
        note,
        f"best averaged weights ({run.state.best:.2%}): {run.directory.model}",
    ):
        run.progress.note(text)
    return Result(
        directory=run.directory.path,
        steps=run.state.step,
        last=last,
        best=run.state.best,
        unreadable=run.bad_images.names,
    )
