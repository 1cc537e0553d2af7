from __future__ import annotations

import pytest

from normfree.recipes import get_contract
from tests.unit.recipes.asked import network, settings


@pytest.mark.parametrize(
    ("level", "decay"), [(0, 5e-5), (1, 6e-5), (2, 7e-5), (3, 8e-5), (4, 9e-5), (5, 1e-4)]
)
def test_nf_regnets_are_trained_as_the_authors_do(level: int, decay: float) -> None:
    name = f"imagenet_nf_regnet_b{level}"
    assert settings(name, "model", "epochs", "batch_size", "lr", "lr_floor") == (
        *(f"nf_regnet_b{level}", 360, 1024, 0.4, 1e-3),
    )
    assert settings(name, "weight_decay", "clipping", "ema_decay") == (decay, None, 0.99999)
    assert settings(name, "mixing", "randaugment_layers", "test_crop", "test_margin") == (
        *("mixup_cutmix", 0, "crop_resize", 32),
    )
    assert settings(name, "precision", "warmup_epochs", "optimizer") == ("float32", 5, "sgd")
    assert network(name).stochastic_depth_rate == 0.1
    assert get_contract(name).expected == "not in the paper"
