from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from normfree.errors import UserError
from normfree.recipes import get_recipe, list_recipes
from normfree.train.config import Recipe, recipe_from_dict, recipe_to_dict
from tests.unit.train.tiny import tiny_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_survive_yaml(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe_from_dict(yaml.safe_load(yaml.safe_dump(recipe_to_dict(recipe)))) == recipe


def test_tuples_and_paths_survive_yaml() -> None:
    recipe = tiny_recipe(
        Path("a/b"), mean=(1.5, 1e-5, 3.0), std=(1.0, 2.0, 3.0), model_options=("alpha=0.3",)
    )
    assert recipe_from_dict(yaml.safe_load(yaml.safe_dump(recipe_to_dict(recipe)))) == recipe


def test_an_unknown_setting_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown setting 'batchsize'; did you mean batch_size"):
        recipe_from_dict({"batchsize": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs must be positive, not 0"),
        ({"batch_size": -1}, "--batch-size must be positive"),
        ({"log_every": 0}, "--log-every must be positive"),
        ({"weight_decay": -1e-5}, "--weight-decay must be at least 0"),
        ({"lr": -0.1}, "--lr must be at least 0"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"accumulate": 25}, "at most 24"),
        ({"label_smoothing": 1.0}, "below 1"),
        ({"momentum": 1.5}, "--momentum must be at least 0 and below 1, not 1.5"),
        ({"ema_decay": 2.0}, "--ema-decay must be at least 0 and below 1, not 2"),
        ({"train_size": 0}, "--train-size must be positive, not 0"),
        ({"test_size": -3}, "--test-size must be positive, not -3"),
        ({"std": (1.0, 0.0)}, "--std must be positive, not 1.0 0.0"),
        ({"mean": (float("nan"),)}, "--mean must be a list, each a finite number or None"),
        ({"base_lr": float("nan")}, "--base-lr must be a finite number; got nan"),
        ({"lr": float("inf")}, "--lr must be a finite number or None; got inf"),
        ({"seed": 99999999999999999999}, r"--seed must be at least 0 and below 2\^63"),
        ({"name": "a/b"}, "--name is part of a directory's name, which 'a/b' cannot be"),
        ({"name": ".."}, "--name is part"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_recipe(Path("x"), **changes)


def test_the_defaults_are_the_papers() -> None:
    recipe = Recipe(data="folder:x", model="nfnet_f0", epochs=360, batch_size=4096)
    paper = get_recipe("imagenet_nfnet_f0")
    for field in (
        *("base_lr", "warmup_epochs", "momentum", "nesterov", "weight_decay", "clipping"),
        *("agc_eps", "label_smoothing", "ema_decay", "augment"),
    ):
        assert getattr(recipe, field) == getattr(paper, field), field


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sam_rho", -0.1),
        ("sam_fraction", 0.0),
        ("sam_fraction", 1.5),
        ("mixup_alpha", 0.0),
        ("randaugment_layers", -1),
        ("freeze", 5),
        ("steps", 0),
        ("step_decay", 0.0),
        ("ema_decay", 1.0),
        ("clipping", 0.0),
        ("agc_eps", 0.0),
        ("optimizer", "adam"),
        ("precision", "float16"),
        ("mixing", "MixUp"),
        ("accumulate", 2.5),
        ("epochs", "3"),
    ],
)
def test_settings_that_no_run_could_have_are_refused(setting: str, value: Any) -> None:
    settings: dict[str, Any] = {"data": "digits", "model": "nfnet_pico", "epochs": 1}
    with pytest.raises(UserError, match="--" + setting.replace("_", "-")):
        Recipe(**settings | {"batch_size": 8, setting: value})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"freeze": 2}, "give them by --init"),
        ({"sam_fraction": 0.2}, "--sam-fraction does nothing without --sam-rho"),
        ({"randaugment_magnitude": 7.0}, "does nothing without --randaugment-layers"),
        ({"optimizer": "adamw"}, "give --lr"),
        ({"clip": "global", "unclipped": ("stem",)}, "--unclipped is AGC's"),
        ({"mixing": "cutmix", "pairing": "in_batch", "batch_size": 1}, "takes two or more"),
        ({"accumulate": 9}, "choose at most 8"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Recipe(**{"data": "d", "model": "m", "epochs": 1, "batch_size": 8, **settings})


def test_a_largest_norm_cannot_be_chosen_by_the_rule_for_lambda() -> None:
    with pytest.raises(UserError, match=r"--clipping 1\.0"):
        Recipe(data="d", model="m", epochs=1, batch_size=8, clip="global", clipping="auto")
