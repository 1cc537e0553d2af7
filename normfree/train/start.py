"""Where a run begins: what is built before anything is written, or what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from normfree.errors import UserError
from normfree.train.build import build_card, build_engine, build_reader, build_state, build_step
from normfree.train.checkpoint import checkpoint_path, newest_checkpoint, read_checkpoint
from normfree.train.engine import Engine
from normfree.train.init import init_fields, new_model, read_init
from normfree.train.recipe import Recipe
from normfree.train.resolve import Resolved, resolve
from normfree.train.restore import restore
from normfree.train.run import Reader
from normfree.train.run_dir import RunDirectory, find_run_directory, new_run_directory
from normfree.train.runtime import Runtime
from normfree.train.saved import differences, read_config
from normfree.train.sources import Sources
from normfree.train.state import TrainState
from normfree.train.step import TrainStep
from normfree.weights import Parameters
from normfree.weights.card import ModelCard


class Parts(NamedTuple):
    """What is built before anything is written: it shows whether the recipe can run."""

    engine: Engine
    resolved: Resolved
    state: TrainState
    step: TrainStep
    reader: Reader
    card: ModelCard


class Start(NamedTuple):
    """Where a run begins, or resumes."""

    directory: RunDirectory
    parts: Parts
    notes: list[str]


@contextmanager
def started(recipe: Recipe, sources: Sources, runtime: Runtime) -> Iterator[Start]:
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
        yield Start(runtime.first(lambda: stack.enter_context(make)), parts, notes)


def _resumes(recipe: Recipe, runtime: Runtime) -> bool:
    """Whether to go on with a run: if the recipe says so, or the launcher may have begun it.

    A launcher starts ranks again with the same command. It counts failures, but not machines that
    came or went, so that its count does not tell whether there was a run before.
    """
    if recipe.place.resume or not runtime.launch.elastic:
        return recipe.place.resume
    out = recipe.place.out
    if out is None:
        raise UserError(
            "torchrun --max-restarts starts the processes again, which must find their run then: "
            "give --out, or leave out --max-restarts"
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
) -> Start:
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
    content, damaged = newest_everywhere(directory.checkpoints, runtime)
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
    return Start(directory, parts, [*notes, *said, resuming])


def newest_everywhere(
    directory: Path, runtime: Runtime
) -> tuple[dict[str, Any] | None, list[Path]]:
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
) -> tuple[Parts, list[str]]:
    """What is trained and read, and what to say about the weights."""
    recipe = resolved.recipe
    model, notes = new_model(resolved.model, resolved.classes, weights, seed=recipe.seed)
    engine = build_engine(recipe, runtime)
    state = build_state(resolved, model, engine)
    step = build_step(resolved, state, engine)
    reader = build_reader(resolved, sources, runtime)
    return Parts(engine, resolved, state, step, reader, build_card(resolved)), notes
