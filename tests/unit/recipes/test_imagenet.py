from __future__ import annotations

import pytest

from normfree.recipes import get_contract, get_recipe, list_recipes
from tests.unit.recipes.asked import network, settings

#     depths           train test drop RA
TABLE_1 = """
F0 [1,2,6,3]     192 256 0.2 5
F1 [2,4,12,6]    224 320 0.3 10
F2 [3,6,18,9]    256 352 0.4 10
F3 [4,8,24,12]   320 416 0.4 15
F4 [5,10,30,15]  384 512 0.5 15
F5 [6,12,36,18]  416 544 0.5 15
F6 [7,14,42,21]  448 576 0.5 15
"""

TABLE_3 = """
bn_resnet50    78.6 94.3   41.6
nfnet_f0       83.6 96.8   73.3
nfnet_f1       84.7 97.1  158.5
nfnet_f2       85.1 97.3  295.8
nfnet_f3       85.7 97.5  532.2
nfnet_f4       85.9 97.6 1033.3
nfnet_f5       86.0 97.6 1398.5
nfnet_f5_sam   86.3 97.9 1958.0
nfnet_f6_sam   86.5 97.9 2774.1
"""

NFNETS = list_recipes("imagenet_nfnet_f[0-7]") + list_recipes("imagenet_nfnet_f?_sam")


@pytest.mark.parametrize("row", TABLE_1.strip().splitlines())
def test_rows_of_table_1(row: str) -> None:
    variant, depths, train, test, drop, magnitude = row.split()
    config = network(f"imagenet_nfnet_{variant.lower()}")
    assert str(list(config.depths)).replace(" ", "") == depths
    assert (config.train_size, config.test_size) == (int(train), int(test))
    assert config.drop_rate == float(drop)
    assert config.randaugment_magnitude == int(magnitude)


@pytest.mark.parametrize("row", TABLE_3.strip().splitlines())
def test_rows_of_table_3(row: str) -> None:
    name, top1, top5, milliseconds = row.split()
    contract = get_contract(f"imagenet_{name}")
    assert contract.expected == f"{top1} % top-1, {top5} % top-5"
    assert contract.time == f"{milliseconds} ms a step of 1,024 images"
    assert contract.source.startswith("table 3, row ")


@pytest.mark.parametrize("name", NFNETS)
def test_nfnets_have_the_whole_recipe(name: str) -> None:
    asked = {
        "epochs": 360,
        "steps": None,
        "batch_size": 4096,
        "optimizer": "sgd",
        "base_lr": 0.1,
        "lr": None,
        "schedule": "cosine",
        "lr_floor": 0.0,
        "warmup_epochs": 5,
        "warmup_steps": None,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 2e-5,
        "clipping": 0.01,
        "clip": "unit",
        "agc_eps": 1e-3,
        "unclipped": ("classifier",),
        "label_smoothing": 0.1,
        "ema_decay": 0.99999,
        "augment": "crop_flip",
        "crop": "tensorflow",
        "mixing": "mixup_cutmix",
        "mixup_alpha": 0.2,
        "cutmix_alpha": 1.0,
        "pairing": "two_batches",
        "randaugment_layers": 4,
        "randaugment_magnitude": None,
        "quirks": True,
        "test_margin": 32,
        "test_crop": "resize_crop",
        "precision": "bfloat16",
        "channels_last": True,
        "init": None,
    }
    assert dict(zip(asked, settings(name, *asked), strict=True)) == asked
    assert network(name).stochastic_depth_rate == 0.25
    assert network(name).activation == "gelu"


def test_sam_is_switched_on_in_its_rows_only() -> None:
    ascending = [name for name in NFNETS if get_recipe(name).sam]
    assert ascending == ["imagenet_nfnet_f5_sam", "imagenet_nfnet_f6_sam"]
    for name in ascending:
        assert settings(name, "sam_rho", "sam_fraction", "sam_scope") == (0.05, 0.2, "micro_batch")
        assert get_recipe(name).batch.micro == 32
        assert "assumed: ρ = 0.05" in get_contract(name).source
        assert get_recipe(name).model.name == name.removeprefix("imagenet_").removesuffix("_sam")


@pytest.mark.parametrize("variant", ["f6", "f7"])
def test_what_the_paper_does_not_print_has_no_number(variant: str) -> None:
    assert get_contract(f"imagenet_nfnet_{variant}").expected == "not in the paper"


def test_the_batch_normalized_resnet_is_trained_plainly() -> None:
    name = "imagenet_bn_resnet50"
    assert settings(name, "model", "clipping", "mixing", "randaugment_layers") == (
        *("bn_resnet50", None, "none", 0),
    )
    assert (network(name).train_size, network(name).test_size) == (224, 224)
    assert network(name).stochastic_depth_rate == 0.0
