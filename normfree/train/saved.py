"""The configuration of a run as ``config.yaml`` and checkpoints hold it: versioned, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from normfree.errors import UserError
from normfree.schema import from_plain, to_plain
from normfree.train.flags import current, settings
from normfree.train.recipe import Recipe
from normfree.train.resolve import Resolved

#: Raised by one if what is saved changes so that older versions cannot read it.
FORMAT = 2

#: Settings that may differ when a run goes on: they change neither the weights nor their order
#: (``on_bad_image`` does only from where the run could not have gone on at all).
FREE_ON_RESUME = frozenset(
    {
        *("name", "out", "resume", "extend_to", "workers", "threads", "device", "compile"),
        "on_bad_image",
        *("max_bad_fraction", "cache", "cache_gb"),
        *("parallel", "shards", "rank_timeout"),
        *("on_nonfinite", "on_loss_spike", "spike_deviations", "max_skipped"),
        *("max_skipped_in_a_row", "watchdog_seconds", "on_hang"),
        *("eval_every", "log_every", "checkpoint_dir"),
        *("checkpoint_every", "checkpoint_epochs", "checkpoint_minutes"),
        *("keep_checkpoints", "keep_best", "keep_epochs"),
        *("telemetry", "report", "tensorboard", "wandb"),
    }
)


def write_config(resolved: Resolved) -> dict[str, Any]:
    """Recipe and derived values in YAML's types."""
    derived = to_plain(resolved)
    return {"format": FORMAT, "recipe": derived.pop("recipe"), "derived": derived}


def read_recipe(saved: object, source: object) -> Recipe:
    """The recipe of a saved configuration.

    Args:
        saved: what :func:`write_config` made.
        source: of the configuration, for messages.

    Raises:
        UserError: it is of another version, or holds settings that no recipe can have.
    """
    try:
        return from_plain(Recipe, _checked(saved, source)["recipe"])
    except UserError as error:
        raise _named(error, source) from None


def read_config(saved: object, source: object) -> Resolved:
    """The inverse of :func:`write_config`; raises as :func:`read_recipe`."""
    values = _checked(saved, source)
    try:
        return from_plain(Resolved, {**values["derived"], "recipe": values["recipe"]})
    except UserError as error:
        raise _named(error, source) from None


def differences(saved: Resolved, now: Resolved, free: AbstractSet[str] = frozenset()) -> list[str]:
    """Settings and derived values that would make a resumed run another run.

    Args:
        saved: of the run that is there.
        now: of the one that shall go on with it.
        free: names that may differ, besides :data:`FREE_ON_RESUME`.

    Returns:
        Lines such as ``epochs: 60 → 30``, stored and asked for; empty if the run can go on.
    """
    before, after = _flat(saved), _flat(now)
    return [
        f"{name}: {before[name]} → {value}"
        for name, value in after.items()
        if name not in FREE_ON_RESUME | free and before[name] != value
    ]


def _flat(resolved: Resolved) -> dict[str, Any]:
    """Derived values and settings by name; a setting goes before what is derived from it."""
    derived = {name: value for name, value in vars(resolved).items() if name != "recipe"}
    flags = {setting.flag for setting in settings(Recipe)}
    return derived | {flag: current(resolved.recipe, flag) for flag in sorted(flags)}


def _checked(saved: object, source: object) -> Mapping[str, Any]:
    if not isinstance(saved, dict) or not isinstance(saved.get("recipe"), dict):
        raise UserError(f"{source} is not the configuration of a run")
    version = saved.get("format", 1)
    if version != FORMAT:
        raise UserError(
            f"{source} has format {version!r:.20}, and this version of normfree reads {FORMAT}: "
            "go on with the version that wrote it (the weights beside it can be read)"
        )
    if not isinstance(saved.get("derived", {}), dict):
        raise UserError(f"{source} is not the configuration of a run")
    return {"derived": {}, **saved}


def _named(error: UserError, source: object) -> UserError:
    return UserError(f"{source} does not hold the configuration of a run: {error}")
