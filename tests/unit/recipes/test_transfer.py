from __future__ import annotations

import pytest

from normfree.recipes import get_contract, get_recipe, list_recipes
from tests.unit.recipes.asked import network, settings

TABLE_4 = """
bn_resnet50   78.1 79.6 79.9
nf_resnet50   79.5 80.9 81.1
bn_resnet101  80.8 82.2 82.5
nf_resnet101  81.4 82.7 83.2
bn_resnet152  81.8 83.1 83.4
nf_resnet152  82.7 83.6 84.0
bn_resnet200  81.8 83.1 83.5
nf_resnet200  82.9 84.1 84.3
"""
CELLS = [
    (row.split()[0], size, percent)
    for row in TABLE_4.strip().splitlines()
    for size, percent in zip((224, 320, 384), row.split()[1:], strict=True)
]
REGULARIZATION = ("weight_decay", "drop_rate", "stochastic_depth_rate")


@pytest.mark.parametrize(("model", "size", "percent"), CELLS)
def test_cells_of_table_4(model: str, size: int, percent: str) -> None:
    name = f"imagenet_{model}_finetune_{size}"
    assert get_contract(name).expected == f"{percent} % top-1"
    assert settings(name, "model", "train_size", "test_size") == (model, size, size)
    assert settings(name, *REGULARIZATION) == (0.0, 0.0, 0.0)
    assert settings(name, "clipping") == (None if model.startswith("bn") else 0.01,)


@pytest.mark.parametrize("name", list_recipes("imagenet_*_finetune*"))
def test_fine_tuning_takes_15000_steps_from_weights_that_the_user_gives(name: str) -> None:
    assert settings(name, "steps", "batch_size", "lr", "warmup_steps", "ema_decay") == (
        *(15_000, 2048, 0.1, 5000, 0.9999),
    )
    assert settings(name, "init", "mixing", "randaugment_layers") == (
        *("weights.safetensors", "none", 0),
    )
    assert 23 < 15_000 * 2048 / 1_281_167 <= 24


@pytest.mark.parametrize("name", list_recipes("jft_*"))
def test_pre_training_has_crops_and_flips_only_at_224_pixels(name: str) -> None:
    assert settings(name, "data", "mixing", "randaugment_layers", "ema_decay") == (
        *("folder:jft", "none", 0, 0),
    )
    config = network(name)
    assert (config.train_size, config.test_size) == (224, 224)
    assert (config.drop_rate, config.stochastic_depth_rate) == (0.0, 0.0)
    assert "not public" in get_contract(name).title


@pytest.mark.parametrize("model", [row.split()[0] for row in TABLE_4.strip().splitlines()])
def test_resnets_are_pre_trained_for_10_epochs(model: str) -> None:
    name = f"jft_{model}"
    assert settings(name, "model", "epochs", "batch_size", "lr", "warmup_steps") == (
        *(model, 10, 1024, 0.4, 5000),
    )
    assert settings(name, "weight_decay", "steps") == (1e-5, None)


@pytest.mark.parametrize(
    ("model", "epochs", "days"), [("nfnet_f4", 40, "3.7k"), ("nfnet_f4_plus", 20, "1.86k")]
)
def test_rows_of_table_5(model: str, epochs: int, days: str) -> None:
    name = f"jft_{model}"
    assert settings(name, "model", "epochs", "batch_size", "base_lr", "lr", "weight_decay") == (
        *(model, epochs, 4096, 0.1, None, 1e-6),
    )
    assert get_contract(name).time == f"{days} TPUv3-core-days"
    assert get_contract(f"imagenet_{model}_finetune").expected == "89.2 % top-1"


@pytest.mark.parametrize("model", ["nfnet_f4", "nfnet_f4_plus"])
@pytest.mark.parametrize(
    ("end", "regularization", "rho"),
    [
        ("", (1e-5, 0.25, 0.1), 0.05),
        ("_unregularized", (0.0, 0.0, 0.0), 0.05),
        ("_no_sam", (1e-5, 0.25, 0.1), 0.0),
    ],
)
def test_nfnets_are_fine_tuned_with_sam_and_mild_regularization(
    model: str, end: str, regularization: tuple[float, ...], rho: float
) -> None:
    name = f"imagenet_{model}_finetune{end}"
    assert settings(name, "model", "sam_rho", "clipping") == (model, rho, 0.01)
    assert settings(name, *REGULARIZATION) == regularization
    assert (network(name).train_size, network(name).test_size) == (384, 512)


def test_f4_plus_is_wider() -> None:
    assert network("jft_nfnet_f4_plus").widths == (384, 768, 2048, 2048)
    assert network("jft_nfnet_f4_plus").depths == (5, 10, 30, 15)


def test_pre_training_derives_the_classes_from_the_data() -> None:
    assert get_recipe("jft_nf_resnet50").model.num_classes is None
