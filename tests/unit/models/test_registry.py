"""Names, fields and what is said about wrong ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import normfree
from normfree import UserError
from normfree.models import NFNet, NFNetConfig, build_model, list_models, model_config


def test_names():
    names = list_models()
    assert len(names) == len(set(names))
    for variant in range(8):
        assert {f"nfnet_f{variant}", f"nfnet_f{variant}_plus"} <= set(names)
    assert list_models("nfnet_f?") == [f"nfnet_f{i}" for i in range(8)]
    assert {"nfnet_pico", "nfnet_nano", "nfnet_micro"} <= set(list_models("nfnet_*"))
    assert list_models("no such") == []


def test_unknown_names_and_fields_come_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown model 'nfnet_f00'; did you mean .*nfnet_f0"):
        normfree.create_model("nfnet_f00")
    with pytest.raises(UserError, match=r"'droprate'; did you mean drop_rate\?"):
        normfree.create_model("nfnet_f0", droprate=0.1)
    with pytest.raises(UserError, match=r"unknown model 'vgg'; known: "):
        model_config("vgg")


def test_fields_are_overridden_and_the_rest_is_kept():
    config = model_config("nfnet_f1", num_classes=7, alpha=0.1)
    assert (config.num_classes, config.alpha) == (7, 0.1)
    assert dataclasses.replace(config, num_classes=1000, alpha=0.2) == model_config("nfnet_f1")
    assert build_model("nfnet_f1", device="meta", num_classes=7).config.num_classes == 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.alpha = 0.3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (8, 8, 8)}, "widths must be four positive numbers"),
        ({"depths": (1, 0, 1, 1)}, "depths must be four positive numbers"),
        ({"group_widths": (8, 8, 8, -8)}, "group_widths must be four positive"),
        ({"bottleneck_ratios": (0.5,)}, "bottleneck_ratios must be four positive"),
        ({"stem_channels": (8, 8)}, "stem_channels must be three"),
        ({"activation": "gleu"}, "unknown activation 'gleu'; did you mean .*gelu"),
        ({"activation": "glu"}, "'glu' halves the channels"),
        ({"stem_stride": 3}, "stem_stride must be 1, 2 or 4; got 3"),
        ({"drop_rate": 1.0}, r"drop_rate must be in \[0, 1\); got 1.0"),
        ({"stochastic_depth_rate": -0.1}, r"stochastic_depth_rate must be in \[0, 1\)"),
        ({"drop_rate": "abc"}, "drop_rate must be a finite number; got 'abc'"),
        ({"alpha": float("nan")}, "alpha must be a finite number; got nan"),
        ({"widths": [1.5, 2, 3, 4]}, "widths must be a list, each a whole number; got"),
        ({"widths": 64}, "widths must be a list, each a whole number; got 64"),
        ({"num_classes": True}, "num_classes must be a whole number; got True"),
        ({"second_conv": 1}, "second_conv must be true or false; got 1"),
        ({"activation": ["relu"]}, "activation must be a word; got"),
        ({"train_size": 0}, "train_size and test_size must be positive; got 0"),
        ({"num_classes": -1}, "num_classes must not be negative"),
        ({"in_channels": 0}, "in_channels at least 1"),
    ],
    ids=str,
)
def test_values_that_no_network_can_have(fields, message):
    with pytest.raises(UserError, match=message):
        model_config("nfnet_pico", **fields)


def test_lists_become_tuples():
    """As JSON and YAML bring them."""
    saved = dataclasses.asdict(model_config("nfnet_pico"))
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in saved.items()}
    assert NFNetConfig(**lists) == model_config("nfnet_pico")


def test_device_and_dtype():
    model = normfree.create_model("nfnet_pico", dtype=torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model(torch.zeros(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64
    meta = normfree.create_model("nfnet_f7_plus", device="meta")
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    assert isinstance(meta, NFNet)


def test_the_same_seed_makes_the_same_network():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(normfree.create_model("nfnet_pico").state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["stem.conv0.weight"], states[2]["stem.conv0.weight"])
