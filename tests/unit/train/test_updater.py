"""The optimizer of a recipe: its kind, its groups, what it clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from normfree.errors import UserError
from normfree.optim import AGCSGD, LARS, Muon, RMSProp
from normfree.train.build import build_updater
from normfree.train.init import new_model
from normfree.train.resolve import Resolved, resolve
from normfree.train.sources import open_sources
from normfree.train.updater import Updater
from tests.unit.train.tiny import tiny_recipe


def resolved(**changes: Any) -> Resolved:
    recipe = tiny_recipe(Path("unused"), **changes)
    return resolve(recipe, *open_sources(recipe.data.source))


def made(**changes: Any) -> tuple[torch.nn.Module, Updater]:
    settings = resolved(**changes)
    model = new_model(settings.model, settings.classes, None, seed=0)[0]
    return model, build_updater(model, settings)


def clipped_names(**changes: Any) -> set[str]:
    groups = made(**changes)[1].optimizer.param_groups
    return {n for g in groups if g["clipping"] is not None for n in g["param_names"]}


def test_all_but_the_weight_of_the_classifier_is_clipped() -> None:
    model, _ = made()
    names = {name for name, _ in model.named_parameters()}
    assert clipped_names() == names - {"classifier.weight"}
    assert clipped_names(unclipped=()) == names


@pytest.mark.parametrize(
    ("unclipped", "prefix"),
    [
        ("first_conv", "stem.conv0."),
        ("stem", "stem."),
        ("stage1", "stages.0."),
        ("stage4", "stages.3."),
        ("head", "head."),
        ("stages.2.0", "stages.2.0."),
    ],
)
def test_a_set_of_layers_is_left_unclipped(unclipped: str, prefix: str) -> None:
    spared = clipped_names() - clipped_names(unclipped=("classifier", unclipped))
    assert spared == {name for name in clipped_names() if name.startswith(prefix)}
    assert spared


def test_an_unknown_set_of_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"stage5.*stages"):
        made(unclipped=("stage5",))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("sgd", AGCSGD), ("lars", LARS), ("rmsprop", RMSProp)),
        *(("adamw", torch.optim.AdamW), ("muon", Muon)),
    ],
)
@pytest.mark.parametrize("clip", ["unit", "layer", "global"])
def test_every_optimizer_clips_in_every_way(name: str, kind: type, clip: str) -> None:
    model, update = made(optimizer=name, clip=clip, clipping=1e-6, lr=0.1)
    assert isinstance(update.optimizer, kind)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    record = update()
    assert 0 < int(record.clipped_units) == record.total_units
    assert (record.total_units == 1) == (clip == "global")
    assert any(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_units_are_more_than_layers() -> None:
    counts = []
    for clip in ("unit", "layer"):
        model, update = made(clip=clip)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        counts.append(update().total_units)
        layers = len(list(model.parameters())) - 1
    assert counts[0] > counts[1] == layers


def test_global_clipping_bounds_the_norm_of_the_gradient() -> None:
    model, update = made(clip="global", clipping=0.5)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    update()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-4)


def test_lambda_follows_from_the_batch_size_if_it_is_left_to_it() -> None:
    found = {size: resolved(clipping="auto", batch_size=size).clipping for size in (16, 64)}
    assert found[16] == pytest.approx(0.16)
    assert found[64] == pytest.approx(0.16)
    data = {"data": "synthetic:4096x8x1x5", "batch_size": 4096, "steps": 1}
    assert resolved(clipping="auto", **data).clipping == 0.01


def test_no_clipping_counts_no_unit() -> None:
    for name in ("sgd", "adamw"):
        model, update = made(optimizer=name, lr=0.1, clipping=None)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        record = update()
        assert (int(record.clipped_units), record.total_units) == (0, 0)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"optimizer": "adamw", "betas": (0.8, 0.95), "adam_eps": 1e-6}, {"betas": (0.8, 0.95)}),
        ({"optimizer": "lars", "trust": 0.02, "momentum": 0.5}, {"trust": 0.02, "momentum": 0.5}),
        (
            {"optimizer": "rmsprop", "rmsprop_decay": 0.8, "rmsprop_eps": 0.1},
            {"decay": 0.8, "eps": 0.1},
        ),
        ({"momentum": 0.7, "nesterov": False}, {"momentum": 0.7, "nesterov": False}),
        (
            {"optimizer": "muon", "momentum": 0.9, "adam_ratio": 0.2, "betas": (0.8, 0.95)},
            {"momentum": 0.9, "adam_ratio": 0.2, "betas": (0.8, 0.95)},
        ),
        ({"agc_eps": 0.1, "clip": "layer"}, {"eps": 0.1, "unitwise": False}),
    ],
)
def test_every_setting_reaches_the_optimizer(
    settings: dict[str, Any], wanted: dict[str, Any]
) -> None:
    _, update = made(lr=0.3, **settings)
    for group in update.optimizer.param_groups:
        assert {name: group[name] for name in wanted} == wanted
        assert group["lr"] == 0.3
