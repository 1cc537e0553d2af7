"""Model names, configuration fields, and error messages for invalid ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import normfree
from normfree import UserError
from normfree.models import NFNet, NFNetConfig, build_model, list_models, model_config
from normfree.schema import from_plain, to_plain


def test_names():
    names = list_models()
    assert len(names) == len(set(names))
    for variant in range(8):
        assert {f"nfnet_f{variant}", f"nfnet_f{variant}_plus"} <= set(names)
    assert list_models("nfnet_f?") == [f"nfnet_f{i}" for i in range(8)]
    assert {"nfnet_pico", "nfnet_nano", "nfnet_micro"} <= set(list_models("nfnet_*"))
    assert list_models("no such") == []


def test_unknown_names_and_fields_suggest_the_nearest():
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
        ({"depths": (1, 0, 1, 1)}, "depths should be greater than or equal to 1; got 0"),
        ({"group_widths": (8, 8, 8, -8)}, "group_widths should be greater than or equal to 1"),
        ({"bottleneck_ratios": (0.5,)}, "bottleneck_ratios must be four positive"),
        ({"stem_channels": (8, 8)}, "stem_channels must be three"),
        ({"activation": "gleu"}, "unknown activation 'gleu'; did you mean .*gelu"),
        ({"activation": "glu"}, "'glu' halves the channels"),
        ({"stem_stride": 3}, "stem_stride should be 1, 2 or 4; got 3"),
        ({"stem_stride": (1, 2)}, "stem_stride should be 1, 2 or 4; got"),
        ({"stem_stride": (1, 3, 1, 1)}, "stem_stride should be 1 or 2; got 3"),
        ({"drop_rate": 1.0}, "drop_rate should be less than 1; got 1.0"),
        ({"stochastic_depth_rate": -0.1}, "stochastic_depth_rate should be greater than or"),
        ({"drop_rate": "abc"}, "drop_rate should be a valid number; got 'abc'"),
        ({"alpha": float("nan")}, "alpha should be a finite number; got nan"),
        ({"widths": [1.5, 2, 3, 4]}, "widths should be a valid integer; got 1.5"),
        ({"widths": 64}, "widths should be a valid tuple; got 64"),
        ({"num_classes": True}, "num_classes should be a valid integer; got True"),
        ({"second_conv": 1}, "second_conv should be a valid boolean; got 1"),
        ({"activation": ["relu"]}, "activation should be a valid string; got"),
        ({"train_size": 0}, "train_size should be greater than or equal to 1; got 0"),
        ({"num_classes": -1}, "num_classes should be greater than or equal to 0; got -1"),
        ({"in_channels": 0}, "in_channels should be greater than or equal to 1; got 0"),
        ({"bottleneck_of": ("output",) * 3}, "bottleneck_of must be four of"),
        ({"gain": "exat"}, "gain should be 'reference' or 'exact'; got 'exat'"),
        ({"gain": "exact", "activation": "log_softmax"}, "gain 'exact' is for elementwise"),
        ({"se_activation": "gelu"}, "se_activation should be 'relu' or 'network'; got 'gelu'"),
        ({"beta_place": "between"}, "beta_place should be 'after' or 'before'"),
        # Values from a hostile model card are rejected before anything is allocated.
        ({"depths": (1, 1, 1, 10**7)}, "depths should be less than or equal to 10000; got 1000000"),
        ({"depths": (9_000,) * 4}, "depths must add up to 10,000 blocks at most; got 36,000"),
        ({"widths": (8,) * 10**5}, r"widths must be four positive numbers.*\.\.\.\)$"),
        ({"activation": "x" * 10**6}, r"unknown activation 'x+\.\.\.x+'"),
        ({"alpha": 1e308}, "alpha should be less than or equal to 100"),
        ({"widths": (8, 8, 8, 10**9)}, "widths should be less than or equal to 65536; got 10000"),
        ({"num_classes": 20_000_000}, "num_classes should be less than or equal to 1000000; got"),
        ({"test_size": 10**6}, "test_size should be less than or equal to 16384; got 1000000"),
        ({"in_channels": 10**9}, "in_channels should be less than or equal to 65536; got"),
        ({"se_ratio": -1}, "se_ratio should be greater than 0; got -1"),
        ({"se_ratio": 1e9}, "se_ratio should be less than or equal to 64"),
        ({"head_multiplier": 0}, "head_multiplier should be greater than 0; got 0"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_invalid_values_are_rejected(fields, message):
    with pytest.raises(UserError, match=message):
        model_config("nfnet_pico", **fields)


def test_lists_become_tuples():
    """JSON and YAML produce lists."""
    saved = dataclasses.asdict(model_config("nfnet_pico"))
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in saved.items()}
    assert NFNetConfig(**lists) == model_config("nfnet_pico")
    assert from_plain(NFNetConfig, to_plain(model_config("nfnet_pico"))) == NFNetConfig(**saved)
    wide = normfree.create_model("nfnet_pico", widths=[16, 32, 48, 48], device="meta")
    assert wide.config.widths == (16, 32, 48, 48)


def test_head_multiplier_may_be_a_fraction():
    """The product is rounded down, like the authors' ``int(head_multiplier * channels)``."""
    model = build_model("nfnet_pico", device="meta", head_multiplier=1.255)
    assert model.num_features == model.head.conv.out_channels == int(1.255 * 96) == 120


def test_products_out_of_bounds_are_rejected():
    for fields, message in (
        ({"head_multiplier": 64, "widths": (8, 8, 8, 65_536)}, "at most 65,536 channels"),
        ({"bottleneck_ratios": (64,) * 4, "widths": (65_536,) * 4}, "width should be less than"),
    ):
        with pytest.raises(UserError, match=message):
            build_model("nfnet_pico", device="meta", **fields)


def test_groups_that_do_not_divide():
    with pytest.raises(UserError, match="pointwise_groups must divide the channels"):
        build_model("nfnet_pico", device="meta", pointwise_groups=7)


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
