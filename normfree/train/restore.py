"""Go on from a checkpoint, once everything in it is what this run would have written."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from normfree.errors import UserError
from normfree.optim import AGCSGD, LARS, Muon, RMSProp
from normfree.train.engine import Engine
from normfree.train.gradient import ALONE
from normfree.train.state import TrainState

#: What each optimizer keeps for a parameter between steps; Muon says so itself.
_KEPT: dict[type[torch.optim.Optimizer], frozenset[str]] = {
    AGCSGD: frozenset({"momentum_buffer"}),
    LARS: frozenset({"momentum_buffer"}),
    RMSProp: frozenset({"mean_square", "momentum_buffer"}),
    torch.optim.AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}),
}


class _Unfit(Exception):  # noqa: N818 - becomes a UserError that names the checkpoint
    """A part of a checkpoint is not what this run would have written."""


def restore(
    target: TrainState,
    state: dict[str, Any],
    source: str,
    total_steps: int,
    engine: Engine = ALONE,
) -> None:
    """Go on from the state of a checkpoint.

    Args:
        target: as built from the same configuration.
        state: of the checkpoint.
        source: what to call it in a message.
        total_steps: steps of the run.
        engine: leaves to each rank what it holds of the state.

    Raises:
        UserError: it is of another configuration, or was changed by hand.
    """
    try:
        check_state(state, target, total_steps)
        target.load_state_dict(engine.share(state, _like(target)))
        _lay_out(target.optimizer)
        if not engine.runtime.main:
            target.drop_metrics()
    except (_Unfit, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        kind = "" if isinstance(error, _Unfit) else f"{type(error).__name__}: "
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"the newest checkpoint of {source} does not fit this run ({kind}{said}); "
            "remove it to go on from the one before, or start again with another --out"
        ) from None


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give what an optimizer keeps the strides of its parameter, as before it was saved.

    A file holds rows one after the other; sums over channels-last rows have another order.
    """
    for param, kept in optimizer.state.items():
        for name, value in kept.items():
            plain = type(value) is Tensor and value.shape == param.shape  # not sharded, no count
            if plain and value.stride() != param.stride():
                kept[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)


def _like(target: TrainState) -> dict[str, Any]:
    """A state whose tensors are sharded as the target's; the optimizer's as its parameters."""
    state = {
        number: dict.fromkeys((kept or frozenset()) - {"step"}, param)
        for number, (param, kept) in enumerate(_kept(target.optimizer))
    }
    return {**target.state_dict(), "optimizer": {"state": state}}


def _kept(optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, frozenset[str] | None]]:
    """Each parameter, with the names of what the optimizer keeps for it; None: not known."""
    return [
        (
            param,
            optimizer.kept(param, group)
            if isinstance(optimizer, Muon)
            else _KEPT.get(type(optimizer)),
        )
        for group in optimizer.param_groups
        for param in group["params"]
    ]


def check_state(state: Any, fresh: TrainState, total_steps: int) -> None:
    """Check that a saved state has the names, shapes, types and settings of a fresh one.

    Args:
        state: as read from a checkpoint.
        fresh: as built from the recipe, which fixes all but the values that training changes.
        total_steps: steps of the run.

    Raises:
        _Unfit: says which part differs, and how.
    """
    wanted = fresh.state_dict()
    _check_keys(state, wanted, "the state")
    for part in ("model", "ema"):
        if part in wanted:
            _check_tensors(state[part], wanted[part], part)
    _check_optimizer(state["optimizer"], fresh.optimizer)
    for part in ("epoch", "window"):
        _check_sums(state[part], wanted[part], part)
    _check(_is_count(state["step"]) and state["step"] <= total_steps, state, "step", "a step of it")
    _check(_is_finite(state["best"]), state, "best", "a finite number")


def _check_tensors(found: Any, wanted: dict[str, Any], name: str) -> None:
    """A state dict has the names, shapes and types of another."""
    _check_keys(found, wanted, name)
    for key, tensor in wanted.items():
        _check(_is_like(found[key], tensor), found, key, _short(tensor), name)


def _check_sums(found: Any, wanted: dict[str, Any], name: str) -> None:
    """The sums of an accumulator: finite, and not below zero."""
    _check_keys(found, wanted, name)
    for key, value in wanted.items():
        if isinstance(value, Tensor):
            good = _is_like(found[key], value) and 0 <= float(found[key]) < math.inf
        else:
            good = _is_count(found[key])
        _check(good, found, key, "a sum", name)


def _check_optimizer(found: Any, optimizer: torch.optim.Optimizer) -> None:
    wanted = optimizer.state_dict()
    _check_keys(found, wanted, "optimizer")
    groups = found["param_groups"]
    same_number = isinstance(groups, list) and len(groups) == len(wanted["param_groups"])
    _check(same_number, found, "param_groups", f"{len(optimizer.param_groups)} groups", "optimizer")
    for number, (group, own) in enumerate(zip(groups, wanted["param_groups"], strict=True)):
        _check_group(group, own, f"optimizer.param_groups.{number}")
    params = _kept(optimizer)
    _check(isinstance(found["state"], dict), found, "state", "a dictionary", "optimizer")
    for number, kept in found["state"].items():
        known = type(number) is int and 0 <= number < len(params)
        _require(known, f"optimizer.state has the entry {_short(number)}, which is no parameter")
        param, names = params[number]
        _check_kept(kept, param, names, f"optimizer.state.{number}")


def _check_group(found: Any, wanted: dict[str, Any], name: str) -> None:
    """The settings of a group are the recipe's; the schedule sets the rate before every step."""
    _check_keys(found, wanted, name)
    for key, value in wanted.items():
        if key == "lr":
            _check(_is_finite(found[key]) and found[key] >= 0, found, key, "a rate", name)
        else:
            _check(_is_same(found[key], value), found, key, _short(value), name)


def _check_kept(found: Any, param: Tensor, names: frozenset[str] | None, name: str) -> None:
    """What an optimizer keeps for a parameter: tensors like it, and a count of steps."""
    _check_keys(found, dict.fromkeys(names) if names is not None else found, name)
    for key, value in found.items():
        if key == "step":
            _check(_is_step(value), found, key, "a count of steps", name)
        else:
            _check(_is_like(value, param), found, key, _short(param), name)


def _check_keys(found: Any, wanted: Any, name: str) -> None:
    _require(isinstance(found, dict), f"{name} is {_short(found)}, expected a dictionary")
    absent = [key for key in wanted if key not in found]
    unknown = [key for key in found if key not in wanted]
    _require(not absent, f"{name} lacks {_short(absent)}")
    _require(not unknown, f"{name} has {_short(unknown)}, which this run does not know")


def _check(good: bool, found: dict[str, Any], key: str, expected: str, name: str = "") -> None:
    called = f"{name}.{key}" if name else key
    _require(good, f"{called} is {_short(found[key])}, expected {expected}")


def _require(good: bool, otherwise: str) -> None:
    if not good:
        raise _Unfit(otherwise)


def _is_like(found: object, wanted: Tensor) -> bool:
    """Whether it is a tensor of this shape and type."""
    return isinstance(found, Tensor) and found.shape == wanted.shape and found.dtype == wanted.dtype


def _is_same(found: Any, wanted: Any) -> bool:
    """Whether two settings are equal, and of one type: ``0`` is not ``False``."""
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        long = isinstance(found, list | tuple) and len(found) == len(wanted)
        return long and all(map(_is_same, found, wanted))
    return type(found) is type(wanted) and bool(found == wanted)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_finite(value: object) -> bool:
    return (type(value) is float and math.isfinite(value)) or _is_count(value)


def _is_step(value: object) -> bool:
    """Whether it counts steps; PyTorch does so in a floating-point scalar."""
    if isinstance(value, Tensor):
        scalar = value.ndim == 0 and value.is_floating_point()
        return scalar and 0 <= float(value) < math.inf
    return _is_count(value)


def _short(value: object) -> str:
    """A value for use in a message."""
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a dictionary of {len(value)} entries"
    return reprlib.repr(value)
