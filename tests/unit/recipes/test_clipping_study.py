from __future__ import annotations

import pytest

from normfree.recipes import get_contract, get_recipe, list_recipes, sweeps
from normfree.train.flags import current
from tests.unit.recipes.asked import network, settings

BATCHES = (256, 512, 1024, 2048, 4096)
RESNETS = list_recipes("imagenet_??_resnet*_b*")


def test_resnets_are_trained_for_90_epochs_with_the_scaled_learning_rate() -> None:
    assert len(RESNETS) == 70
    for name in RESNETS:
        assert settings(name, "epochs", "steps", "base_lr", "lr", "warmup_epochs", "nesterov") == (
            *(90, None, 0.1, None, 5, True),
        )
        assert settings(name, "mixing", "randaugment_layers", "weight_decay") == ("none", 0, 1e-4)
        config = network(name)
        assert (config.train_size, config.test_size, config.drop_rate) == (224, 224, 0.0)
        assert config.stochastic_depth_rate == (0.0 if config.name.startswith("bn_") else 0.1)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("depth", [50, 200])
def test_figure_2a_compares_three_ways_of_training(depth: int, batch: int) -> None:
    normalized = f"imagenet_bn_resnet{depth}_b{batch}"
    without = f"imagenet_nf_resnet{depth}_b{batch}_noagc"
    for name, model in ((normalized, "bn_resnet"), (without, "nf_resnet")):
        assert settings(name, "model", "batch_size", "clipping") == (f"{model}{depth}", batch, None)
        assert get_contract(name).expected == "drawn only: figure 2a"


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("depth", "figure"), [(50, "figure 2b"), (200, "figure 7")])
def test_figures_2b_and_7_have_five_values_of_lambda(depth: int, figure: str, batch: int) -> None:
    names = list_recipes(f"imagenet_nf_resnet{depth}_b{batch}_agc*")
    assert [settings(name, "clipping") for name in names] == [
        *((0.01,), (0.02,), (0.04,), (0.08,), (0.16,))
    ]
    for name in names:
        assert settings(name, "model", "batch_size", "unclipped") == (
            *(f"nf_resnet{depth}", batch, ("classifier",)),
        )
        assert get_contract(name).expected == f"drawn only: {figure}"


def test_every_set_of_layers_is_left_unclipped_once() -> None:
    sweep = sweeps()["unclipped_layers"]
    base = get_recipe(sweep.recipe)
    recipes = [base.override(**run.settings) for run in sweep.runs]
    sets = {frozenset(current(recipe, "unclipped")) for recipe in recipes}
    layers = {"first_conv", "classifier", "stage1", "stage2", "stage3", "stage4"}
    assert len(recipes) == len(sets) == 64
    assert frozenset() in sets
    assert frozenset.union(*sets) == layers
    for recipe in recipes:
        asked = [current(recipe, flag) for flag in ("model", "batch_size", "clipping")]
        assert asked == ["nf_resnet50", 4096, 0.01]


def test_the_example_of_the_text_is_a_command() -> None:
    command = (
        "normfree train imagenet_nf_resnet50_b4096_agc0.01 --data folder:DIR "
        "--unclipped classifier stage2 stage4"
    )
    assert command in list(sweeps()["unclipped_layers"].commands())


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((), "not said"),
        (("classifier",), "what the rest of the paper does"),
        (("first_conv", "classifier"), "often stable"),
        (("stage3",), "not stable"),
        (("first_conv", "classifier", "stage1", "stage2", "stage3", "stage4"), "not stable"),
    ],
)
def test_what_the_text_says_of_stability(layers: tuple[str, ...], said: str) -> None:
    runs = sweeps()["unclipped_layers"].runs
    assert [run.expected for run in runs if run.settings["unclipped"] == layers] == [said]
