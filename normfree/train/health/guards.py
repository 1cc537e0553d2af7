"""All that watches over a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from normfree.train.engine import Engine
from normfree.train.health.disk import DiskSpace, state_bytes
from normfree.train.health.gradients import GradientWatch
from normfree.train.health.monitor import Monitor
from normfree.train.health.skipped import SkippedSteps, read_skipped
from normfree.train.health.watchdog import Watchdog
from normfree.train.recipe import Recipe
from normfree.train.run_dir import RunDirectory
from normfree.train.state import TrainState
from normfree.train.step import TrainStep
from normfree.train.store import LocalStore, Store


@dataclass(frozen=True, kw_only=True)
class Guards:
    """All that watches over a run.

    Attributes:
        monitor: losses, gradients, clipping.
        watchdog: whether it gets on.
        disk: the space for checkpoints.
        rewinds: whether the run may go back.
    """

    monitor: Monitor
    watchdog: Watchdog
    disk: DiskSpace
    rewinds: bool


def build_guards(
    recipe: Recipe,
    state: TrainState,
    step: TrainStep,
    *,
    directory: RunDirectory,
    store: Store,
    engine: Engine,
    say: Callable[[str], None],
) -> Guards:
    """What a recipe asks for.

    Args:
        recipe: of the run.
        state: of the run.
        step: which the monitor watches, once it is given ``monitor.watch``.
        directory: of the run.
        store: of its checkpoints.
        engine: the ranks.
        say: prints a line.

    Raises:
        UserError: the file of skipped steps is damaged.
    """
    runtime, settings = engine.runtime, recipe.health
    reasons = runtime.first(lambda: read_skipped(directory.skipped))
    watch = GradientWatch(
        state.model,
        runtime,
        SkippedSteps(directory.skipped if runtime.main else None, reasons),
        skips=settings.on_nonfinite == "skip",
        every=recipe.loop.log_every if settings.on_nonfinite == "stop" else 1,
    )
    return Guards(
        monitor=Monitor(
            settings, watch, runtime, device=step.transform.device, say=say, rate=step.schedule
        ),
        watchdog=Watchdog(
            settings.watchdog_seconds,
            settings.on_hang,
            directory=directory.path,
            runtime=runtime,
            say=say,
        ),
        disk=DiskSpace(store.directory, _checkpoint_bytes(state))
        if isinstance(store, LocalStore)
        else DiskSpace(directory.path, 0),
        rewinds=settings.rewinds,
    )


def _checkpoint_bytes(state: TrainState) -> int:
    """What a checkpoint takes, with the momentum that there is after the first step."""
    momentum = 0 if state.optimizer.state else state_bytes(list(state.model.parameters()))
    return state_bytes(state.state_dict()) + momentum
