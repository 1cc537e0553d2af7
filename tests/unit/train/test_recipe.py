from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from normfree.errors import UserError
from normfree.recipes import get_recipe, list_recipes
from normfree.schema import from_plain, to_plain
from normfree.train.components import AGC, Batch, Data, Epochs, Network
from normfree.train.flags import current, settings
from normfree.train.recipe import Recipe
from tests.unit.train.tiny import tiny_recipe

PLAIN = Recipe(data=Data(source="folder:x"), model=Network(name="nfnet_f0"))


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_survive_yaml(name: str) -> None:
    recipe = get_recipe(name)
    assert from_plain(Recipe, yaml.safe_load(yaml.safe_dump(to_plain(recipe)))) == recipe


def test_tuples_and_paths_survive_yaml() -> None:
    recipe = tiny_recipe(
        Path("a/b"), mean=(1.5, 1e-5, 3.0), std=(1.0, 2.0, 3.0), model_options={"alpha": 0.3}
    )
    assert from_plain(Recipe, yaml.safe_load(yaml.safe_dump(to_plain(recipe)))) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs should be greater than 0; got 0"),
        ({"batch_size": -1}, "--batch-size should be greater than 0"),
        ({"log_every": 0}, "--log-every should be greater than 0"),
        ({"weight_decay": -1e-5}, "--weight-decay should be greater than or equal to 0"),
        ({"lr": -0.1}, "--lr should be greater than 0"),
        ({"lr": 0}, "--lr should be greater than 0"),
        ({"seed": -1}, "--seed should be greater than or equal to 0"),
        ({"accumulate": 25}, "at most 24"),
        ({"label_smoothing": 1.0}, "--label-smoothing should be less than 1"),
        ({"momentum": 1.5}, "--momentum should be less than 1; got 1.5"),
        ({"ema_decay": 2.0}, "--ema-decay should be less than 1; got 2"),
        ({"train_size": 0}, "--train-size should be greater than 0; got 0"),
        ({"test_size": -3}, "--test-size should be greater than 0; got -3"),
        ({"std": (1.0, 0.0)}, "--std should be greater than 0; got 0"),
        ({"mean": (float("nan"),)}, "--mean should be a finite number; got nan"),
        ({"base_lr": float("nan")}, "--base-lr should be a finite number; got nan"),
        ({"lr": float("inf")}, "--lr should be a finite number; got inf"),
        ({"seed": 99999999999999999999}, "--seed should be"),
        ({"name": "a/b"}, "--name is part of a directory's name, which 'a/b' cannot be"),
        ({"name": ".."}, "--name is part"),
        ({"init": ""}, "--init should have at least 1 character"),
        ({"sam_rho": -0.1}, "--sam-rho should be greater than 0"),
        ({"sam_rho": 0.1, "sam_fraction": 0.0}, "--sam-fraction"),
        ({"sam_rho": 0.1, "sam_fraction": 1.5}, "--sam-fraction"),
        ({"mixing": "mixup", "mixup_alpha": 0.0}, "--mixup-alpha"),
        ({"randaugment_layers": -1}, "--randaugment-layers"),
        ({"init": "x", "freeze": 5}, "--freeze"),
        ({"schedule": "step", "step_decay": 0.0}, "--step-decay"),
        ({"clipping": 0.0}, "--clipping"),
        ({"agc_eps": 0.0}, "--agc-eps"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam'"),
        ({"precision": "float16"}, "--precision"),
        ({"mixing": "MixUp"}, "unknown mixing 'MixUp'; did you mean mixup"),
        ({"accumulate": 2.5}, "--accumulate should be a valid integer"),
        ({"epochs": "3"}, "--epochs should be a valid integer; got '3'"),
        ({"nesterov": 1}, "--nesterov should be a valid boolean"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_recipe(Path("x"), **changes)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"freeze": 2}, "give them by --init"),
        ({"sam_fraction": 0.2}, "--sam-fraction does nothing without --sam-rho"),
        ({"randaugment_magnitude": 7.0}, "does nothing without --randaugment-layers"),
        ({"mixup_alpha": 0.3}, "--mixup-alpha does nothing without --mixing"),
        ({"clipping": None, "agc_eps": 0.1}, "--agc-eps does nothing without --clipping"),
        ({"optimizer": "adamw"}, "--lr is missing"),
        ({"optimizer": "adamw", "lr": 0.1, "momentum": 0.5}, "--momentum is a setting of"),
        ({"clip": "global", "clipping": 1.0, "unclipped": ("stem",)}, "--unclipped is a setting"),
        ({"clip": "global", "clipping": "auto"}, r"--clipping 1\.0"),
        ({"mixing": "cutmix", "pairing": "in_batch", "batch_size": 1}, "takes two or more"),
        ({"accumulate": 9, "batch_size": 8}, "choose at most 8"),
        ({"epochs": 3, "steps": 5}, "give --epochs or --steps, not both"),
        ({"optimizer": "lars", "base_lr": 0.1}, "--base-lr is a setting of --optimizer sgd, not"),
        ({"lr": 0.1, "base_lr": 0.1}, "give --base-lr or --lr, not both"),
        ({"warmup_steps": 1, "warmup_epochs": 1}, "--warmup-epochs or --warmup-steps, not both"),
        ({"warmup_steps": 1, "warmup_fraction": 0.1}, "--warmup-fraction or --warmup-steps, not"),
        ({"step_epochs": 2.0}, "--step-epochs is a setting of --schedule step, not of cosine"),
        ({"batchsize": 3}, "unknown setting 'batchsize'; did you mean batch_size"),
        ({"model_options": {"name": "x"}}, "choose the network with --model"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        PLAIN.override(**values)


def test_the_defaults_are_the_papers() -> None:
    paper = get_recipe("imagenet_nfnet_f0")
    for flag in (
        *("base_lr", "warmup_epochs", "momentum", "nesterov", "weight_decay", "clipping"),
        *("agc_eps", "label_smoothing", "ema_decay", "augment", "epochs", "batch_size"),
    ):
        assert current(PLAIN, flag) == current(paper, flag), flag


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"steps": 5}, {"steps": 5, "epochs": None}),
        ({"lr": 0.1}, {"lr": 0.1, "base_lr": None}),
        ({"warmup_fraction": 0.1}, {"warmup_fraction": 0.1, "warmup_epochs": None}),
        ({"clipping": None}, {"clipping": None, "clip": None}),
        ({"clip": "layer"}, {"clip": "layer", "clipping": 0.01}),
        ({"clip": "global", "clipping": 1.0}, {"clip": "global", "clipping": 1.0, "agc_eps": None}),
        ({"ema_decay": 0}, {"ema_decay": 0}),
        ({"ema_decay": 0.0}, {"ema_decay": 0}),
        ({"augment": "none"}, {"augment": "none", "crop": None}),
        ({"augment": "shift", "shift_padding": 1}, {"augment": "shift", "shift_padding": 1}),
        ({"mixing": "cutmix", "cutmix_alpha": 2.0}, {"mixing": "cutmix", "cutmix_alpha": 2.0}),
        ({"sam_rho": 0.05}, {"sam_rho": 0.05, "sam_fraction": 1.0, "sam_scope": "batch"}),
        (
            {"optimizer": "adamw", "lr": 1e-3, "betas": (0.8, 0.9)},
            {"optimizer": "adamw", "lr": 1e-3, "betas": (0.8, 0.9), "weight_decay": 2e-5},
        ),
        ({"optimizer": "lars", "lr": 1.0, "trust": 0.01}, {"trust": 0.01, "momentum": 0.9}),
        (
            {"optimizer": "rmsprop", "lr": 1.0, "rmsprop_decay": 0.8, "rmsprop_eps": 0.1},
            {"rmsprop_decay": 0.8, "rmsprop_eps": 0.1},
        ),
        ({"schedule": "step", "step_epochs": 3.0}, {"schedule": "step", "warmup_epochs": 5.0}),
    ],
)
def test_an_override_reaches_its_component(values: dict[str, Any], wanted: dict[str, Any]) -> None:
    recipe = PLAIN.override(**values)
    assert {flag: current(recipe, flag) for flag in wanted} == wanted
    others = {s.flag for s in settings(Recipe)} - values.keys() - wanted.keys()
    if not {"optimizer", "schedule", "augment", "clip", "clipping"} & values.keys():
        assert all(
            current(recipe, flag) == current(PLAIN, flag) for flag in others - _inside(values)
        )


def _inside(values: dict[str, Any]) -> set[str]:
    """Flags of the components that the values belong to."""
    components = {s.path[:2] for s in settings(Recipe) if s.flag in values}
    return {
        s.flag for s in settings(Recipe) if s.path[:2] in components or s.path[:1] in components
    }


def test_a_component_is_given_as_it_is_too() -> None:
    recipe = Recipe(
        data=Data(source="digits"),
        model=Network(name="nfnet_pico"),
        batch=Batch(size=8),
        length=Epochs(epochs=1),
        clipping=AGC(clipping="auto"),
    )
    assert (recipe.batch.micro, recipe.clipping) == (8, AGC(clipping="auto"))


def test_every_setting_has_a_description_and_a_flag_of_its_own() -> None:
    homes: dict[str, set[tuple[str, ...]]] = {}
    for setting in settings(Recipe):
        assert setting.description.strip(), setting.flag
        homes.setdefault(setting.flag, set()).add(setting.path)
    assert {flag: paths for flag, paths in homes.items() if len(paths) > 1} == {}
