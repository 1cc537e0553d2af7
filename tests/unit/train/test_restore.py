"""A checkpoint whose values were changed is refused in one line, before anything is taken up."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from normfree.errors import UserError
from normfree.train.build import build_state
from normfree.train.checkpoint import list_checkpoints, read_checkpoint
from normfree.train.fit import fit
from normfree.train.init import new_model
from normfree.train.resolve import resolve
from normfree.train.restore import restore
from normfree.train.sources import open_sources
from normfree.train.state import TrainState
from tests.unit.train.tiny import remove, tiny_recipe

Change = Callable[[dict[str, Any]], None]

NAN = float("nan")
FIRST = "stem.conv0.weight"

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "lars": {"optimizer": "lars", "lr": 0.1},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.001},
    "adamw": {"optimizer": "adamw", "lr": 0.001},
    "muon": {"optimizer": "muon", "lr": 0.03},
}


class Unfinished:
    """A run whose only checkpoint is that of its fourth step."""

    def __init__(self, out: Path, **settings: Any) -> None:
        self.recipe = tiny_recipe(out, keep_checkpoints=1, **settings)
        fit(tiny_recipe(out, **settings))
        kept = list_checkpoints(out / "checkpoints")
        self.path = kept.pop(3)
        for path in kept:
            remove(path)
        self.content = read_checkpoint(self.path)
        self.resolved = resolve(self.recipe, *open_sources(self.recipe.data.source))

    def fresh(self) -> TrainState:
        """The state before the first step."""
        model, _ = new_model(self.resolved.model, self.resolved.classes, None, seed=0)
        return build_state(self.resolved, model)

    def changed(self, change: Change) -> dict[str, Any]:
        """The content of the checkpoint with a change."""
        content = copy.deepcopy(self.content)
        change(content["state"])
        return content

    def resume(self, change: Change) -> None:
        """Go on from the checkpoint with a change, as a file: older versions wrote such."""
        if self.path.exists():
            remove(self.path)
        torch.save({**self.changed(change), "format": 1}, self.path.with_name("step-00000004.pt"))
        fit(self.recipe.override(resume=True))

    def refuses(self, change: Change) -> str:
        """What is said of the checkpoint with a change."""
        state = self.changed(change)["state"]
        with pytest.raises(UserError, match="does not fit this run") as error:
            restore(self.fresh(), state, str(self.path.parent), self.resolved.total_steps)
        assert "Error" not in str(error.value)
        assert len(str(error.value)) < 600
        return str(error.value)


@pytest.fixture(scope="module")
def sgd(tmp_path_factory: pytest.TempPathFactory) -> Unfinished:
    return Unfinished(tmp_path_factory.mktemp("sgd") / "run")


@pytest.fixture(scope="module")
def adamw(tmp_path_factory: pytest.TempPathFactory) -> Unfinished:
    return Unfinished(tmp_path_factory.mktemp("adamw") / "run", **OPTIMIZERS["adamw"])


def setting(*place: Any, to: Any) -> Change:
    """A change of one value."""

    def change(state: Any) -> None:
        for name in place[:-1]:
            state = state[name]
        state[place[-1]] = to

    return change


def without(*place: Any) -> Change:
    """A change that removes one value."""

    def change(state: Any) -> None:
        for name in place[:-1]:
            state = state[name]
        del state[place[-1]]

    return change


GROUP = ("optimizer", "param_groups", 0)
KEPT = ("optimizer", "state")

ODD = {
    "no momentum": setting(*KEPT, 0, "momentum_buffer", to=0),
    "momentum of another shape": setting(*KEPT, 0, "momentum_buffer", to=torch.zeros(3)),
    "scalar momentum": setting(*KEPT, 0, "momentum_buffer", to=torch.zeros(())),
    "unknown buffer": setting(*KEPT, 0, "other", to=torch.zeros(3)),
    "number as the name of a buffer": setting(*KEPT, 0, 3, to=torch.zeros(3)),
    "empty buffers": setting(*KEPT, 0, to={}),
    "list as buffers": setting(*KEPT, 9, to=[[]]),
    "text as buffers": setting(*KEPT, 33, to="x"),
    "parameter out of range": setting(*KEPT, 1000, to={}),
    "parameter below zero": setting(*KEPT, -1, to={}),
    "text as a parameter": setting(*KEPT, "x", to={}),
    "list as a state": setting(*KEPT, to=[]),
    "list as an optimizer": setting("optimizer", to=[]),
    "no groups": setting("optimizer", "param_groups", to=[]),
    "number as groups": setting("optimizer", "param_groups", to=3),
    "number as a group": setting("optimizer", "param_groups", 1, to=3),
    "text eps": setting(*GROUP, "eps", to="x"),
    "complex eps": setting(*GROUP, "eps", to=torch.tensor(1 + 0j)),
    "no eps": without(*GROUP, "eps"),
    "weight decay that is no number": setting(*GROUP, "weight_decay", to=NAN),
    "another weight decay": setting(*GROUP, "weight_decay", to=1.0),
    "list as nesterov": setting(*GROUP, "nesterov", to=[None]),
    "number as unitwise": setting(*GROUP, "unitwise", to=0),
    "unknown setting": setting(*GROUP, "other", to=1),
    "text as a rate": setting(*GROUP, "lr", to="x"),
    "rate below zero": setting(*GROUP, "lr", to=-1.0),
    "bool as a parameter": setting(*GROUP, "params", 2, to=True),
    "no parameters": setting(*GROUP, "params", to=[]),
    "parameter that is a dictionary": setting(*GROUP, "params", 2, to={}),
    "complex weights": setting("model", FIRST, to=torch.zeros(3, dtype=torch.complex64)),
    "complex weights of the shape": lambda state: setting(
        "model", FIRST, to=state["model"][FIRST].to(torch.complex64)
    )(state),
    "integer weights": lambda state: setting("ema", FIRST, to=state["ema"][FIRST].long())(state),
    "weights of another shape": setting("ema", FIRST, to=torch.zeros(3)),
    "weights that are text": setting("model", FIRST, to="x"),
    "missing weights": without("model", FIRST),
    "unknown weights": setting("model", "other", to=torch.zeros(3)),
    "missing part": without("ema"),
    "text as best": setting("best", to="x"),
    "best that is no number": setting("best", to=NAN),
    "bool as a step": setting("step", to=True),
    "step below zero": setting("step", to=-1),
    "step after the last": setting("step", to=9),
    "list as a sum": setting("epoch", "loss", to=[]),
    "sum of another shape": setting("epoch", "loss", to=torch.zeros(2)),
    "sum that is no number": setting("epoch", "loss", to=torch.tensor(NAN)),
    "count below zero": setting("window", "images", to=-1),
    "count that is a tensor": setting("window", "steps", to=torch.tensor(1)),
    "unknown sum": setting("window", "device", to="cpu"),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_odd_values_are_one_line(change: Change, sgd: Unfinished) -> None:
    sgd.refuses(change)


@pytest.mark.parametrize(
    "change",
    [
        setting(*KEPT, 0, "step", to="x"),
        setting(*KEPT, 0, "step", to=torch.tensor(NAN)),
        setting(*KEPT, 0, "step", to=torch.tensor(1 + 0j)),
        setting(*KEPT, 0, "step", to=torch.zeros(3)),
        without(*KEPT, 0, "step"),
        without(*KEPT, 0, "exp_avg_sq"),
        setting(*GROUP, "betas", to=(0.9,)),
        setting(*GROUP, "betas", to=(0.9, 0.5)),
        setting(*GROUP, "foreach", to="x"),
    ],
)
def test_odd_values_of_another_optimizer_are_one_line(change: Change, adamw: Unfinished) -> None:
    adamw.refuses(change)


def test_what_differs_is_named(sgd: Unfinished) -> None:
    said = sgd.refuses(setting(*GROUP, "eps", to="x"))
    assert "(optimizer.param_groups.0.eps is 'x', expected 0.001); remove it" in said


@pytest.mark.parametrize("name", ["no momentum", "text eps", "complex weights", "text as best"])
def test_a_run_does_not_go_on_from_odd_values(name: str, sgd: Unfinished) -> None:
    with pytest.raises(UserError, match="does not fit this run") as error:
        sgd.resume(ODD[name])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_what_a_run_has_written_is_taken_up(settings: dict[str, Any], tmp_path: Path) -> None:
    run = Unfinished(tmp_path / "run", **settings)
    run.resume(lambda state: None)
    assert [path.name for path in list_checkpoints(run.path.parent)] == ["step-00000008"]


def test_a_run_without_momentum_is_taken_up(tmp_path: Path) -> None:
    Unfinished(tmp_path / "run", momentum=0.0).resume(lambda state: None)


def test_what_the_optimizer_keeps_lies_in_memory_as_its_parameters_do(tmp_path: Path) -> None:
    run = Unfinished(tmp_path / "run", channels_last=True)
    state = run.fresh()
    restore(state, run.content["state"], "here", run.resolved.total_steps)
    params = [param for group in state.optimizer.param_groups for param in group["params"]]
    kept = [state.optimizer.state[param]["momentum_buffer"] for param in params]
    assert [x.stride() for x in kept] == [param.stride() for param in params]
    assert any(not param.is_contiguous() for param in params)
    assert not any(x.requires_grad for x in kept)
