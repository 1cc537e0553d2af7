"""Where a run begins: what is built before anything is written, or what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

from normfree.errors import UserError
from normfree.train.build import build_card, build_engine, build_state, build_step
from normfree.train.build_reader import build_reader
from normfree.train.calibration import calibrate
from normfree.train.checkpoint import newest_checkpoint
from normfree.train.engine import Engine
from normfree.train.init import init_fields, new_model, read_init
from normfree.train.length import LENGTH, extended
from normfree.train.memory import check_memory
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
from normfree.train.store import Store, open_store
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
    store: Store
    parts: Parts
    notes: list[str]


@contextmanager
def started(recipe: Recipe, sources: Sources, runtime: Runtime) -> Iterator[Start]:
    """What to train, and from where; within, no other process writes to the run's directory."""
    longer = recipe.place.extend_to is not None
    recipe = extended(recipe)
    if _resumes(recipe, runtime):
        directory = runtime.first(lambda: find_run_directory(recipe.name, recipe.place.out))
        saved = read_config(directory.read_config(), directory.config)
        with directory.locked() if runtime.main else nullcontext():
            free = LENGTH if longer else frozenset()
            yield _resumed(recipe, sources, directory, saved, runtime, free)
        return
    weights = read_init(recipe.model.init, recipe.model.name)
    inferred = init_fields(recipe.model.name, weights)
    resolved = _resolved(recipe, sources, inferred, runtime)
    parts, notes = _parts(resolved, sources, weights, runtime)
    with ExitStack() as stack:
        make = new_run_directory(recipe.name, recipe.place.out)
        directory = runtime.first(lambda: stack.enter_context(make))
        store = open_store(recipe.place.checkpoint_dir, directory)
        runtime.first(lambda: _prepare_new(store))
        yield Start(directory, store, parts, notes)


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
    recipe: Recipe,
    sources: Sources,
    directory: RunDirectory,
    saved: Resolved,
    runtime: Runtime,
    free: frozenset[str],
) -> Start:
    """From the newest checkpoint, if there is one yet; the weights of ``init`` are in it."""
    same = saved.model if saved.recipe.model.name == recipe.model.name else {}
    inferred = {name: value for name, value in same.items() if name != "name"}
    resolved = _resolved(recipe, sources, inferred, runtime)
    changed = differences(saved, resolved, free)
    if changed:
        raise UserError(
            f"{directory.path} is a run with other settings ({'; '.join(changed)}); "
            "resume it with its own, or start another one with another --out"
        )
    store = open_store(recipe.place.checkpoint_dir, directory)
    runtime.first(store.prepare)
    content, passed_over = newest_checkpoint(store, runtime)
    notes = [f"skipped a damaged checkpoint: {reason}" for reason in passed_over]
    weights = read_init(recipe.model.init, recipe.model.name) if content is None else None
    parts, said = _parts(resolved, sources, weights, runtime)
    if content is not None:
        restore(
            parts.state,
            content["state"],
            store.where,
            resolved.total_steps,
            parts.engine,
        )
    resuming = f"going on after step {parts.state.step} of {resolved.total_steps}"
    return Start(directory, store, parts, [*notes, *said, resuming])


def _prepare_new(store: Store) -> None:
    """Make the place for checkpoints, unless another run has it.

    Raises:
        UserError: there are checkpoints.
    """
    store.prepare()
    if store.steps():
        raise UserError(
            f"{store.where} holds the checkpoints of another run; choose another --checkpoint-dir"
        )


def _parts(
    resolved: Resolved, sources: Sources, weights: Parameters | None, runtime: Runtime
) -> tuple[Parts, list[str]]:
    """What is trained and read, and what to say about the weights."""
    recipe = resolved.recipe
    warnings = check_memory(resolved, runtime.world)
    model, notes = new_model(resolved.model, resolved.classes, weights, seed=recipe.seed)
    if recipe.model.calibrate and weights is None:
        calibrate(model, resolved, sources)
    engine = build_engine(recipe, runtime)
    state = build_state(resolved, model, engine)
    step = build_step(resolved, state, engine)
    reader = build_reader(resolved, sources, runtime)
    return Parts(engine, resolved, state, step, reader, build_card(resolved)), [*warnings, *notes]
