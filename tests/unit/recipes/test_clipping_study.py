from __future__ import annotations

import pytest

from normfree.recipes import get_contract, get_recipe, list_recipes
from tests.unit.recipes.asked import network, settings

BATCHES = (256, 512, 1024, 2048, 4096)
RESNETS = [*list_recipes("imagenet_??_resnet*_b*"), *list_recipes("*_unclipped_*")]


def test_resnets_are_trained_for_90_epochs_with_the_scaled_learning_rate() -> None:
    assert len(RESNETS) == 70 + 64
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
    names = list_recipes("imagenet_nf_resnet50_unclipped_*")
    sets = {frozenset(get_recipe(name).unclipped) for name in names}
    layers = {"first_conv", "classifier", "stage1", "stage2", "stage3", "stage4"}
    assert len(names) == len(sets) == 64
    assert frozenset() in sets
    assert frozenset.union(*sets) == layers
    for name in names:
        assert settings(name, "model", "batch_size", "clipping") == ("nf_resnet50", 4096, 0.01)


def test_the_example_of_the_text_has_a_readable_name() -> None:
    name = "imagenet_nf_resnet50_unclipped_fc_s2_s4"
    assert get_recipe(name).unclipped == ("classifier", "stage2", "stage4")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("none", "stable"),
        ("fc", "stable"),
        ("conv1_fc", "often stable"),
        ("s3", "not stable"),
        ("conv1_fc_s1_s2_s3_s4", "not stable"),
    ],
)
def test_what_the_text_says_of_stability(layers: str, said: str) -> None:
    expected = get_contract(f"imagenet_nf_resnet50_unclipped_{layers}").expected
    assert expected == f"{said}; no number printed"
