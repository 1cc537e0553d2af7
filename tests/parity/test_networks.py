"""Full-size networks match the authors' outputs; every variant has the same blocks and counts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from normfree.models import NFNet, build_model
from normfree.nn import NFBlock
from normfree.weights import load_state_dict
from tests.parity import reference

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
FORWARDS = {
    "nfnet_f0": ("nfnet_f0", {}, ["192x192"]),
    "nf_resnet50": ("nf_resnet50", {}, ["64x64", "75x61"]),
    "nf_resnet50_se": ("nf_resnet50", {"se_place": "output"}, ["64x64", "75x61"]),
    "nf_regnet_b0": ("nf_regnet_b0", {}, ["64x64", "75x61"]),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("file", FORWARDS)
def test_forward(file, dtype):
    name, fields, sizes = FORWARDS[file]
    stored = reference.arrays(f"{file}_forward")
    model = build_model(name, dtype=dtype, **fields).eval()
    load_state_dict(model, reference.hashed_state(model, stored), "the reference")
    suffix = "_f64" if dtype == torch.float64 else ""
    for size in sizes:
        want = reference.below(size, stored)
        with torch.inference_mode():
            x = reference.nchw(want["input"], dtype)
            pooled = model.forward_features(x).mean(dim=(2, 3))
            logits = model.classifier(pooled)
        assert reference.relative_error(pooled, want["pool" + suffix]) <= TOLERANCE[dtype], size
        assert reference.relative_error(logits, want["logits" + suffix]) <= TOLERANCE[dtype], size


def built(variant, **fields):
    """Our network, by its name in the reference."""
    own = {"NFNet-tiny": reference.TINY, "NFNet-micro": reference.MICRO}
    if variant in own:
        return NFNet(dataclasses.replace(own[variant], **fields), device="meta")
    if variant.endswith("-SE"):
        fields["se_place"] = "output"
    name = variant.removesuffix("-SE").replace("ResNet-ResNet", "ResNet").replace("+", "_plus")
    return build_model(name.lower().replace("-", "_"), device="meta", **fields)


TABLE = reference.table("param_counts")
COUNTS = {key: row for key, row in TABLE.items() if key.startswith("NF")}


@pytest.mark.parametrize("variant", COUNTS)
def test_variant(variant):
    want, model = COUNTS[variant], built(variant)
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) == want["params"]
    assert len(parameters) == want["num_tensors"]
    assert list(model.buffers()) == []
    config = model.config
    if want["train_imsize"] is not None:
        assert (config.train_size, config.test_size) == (want["train_imsize"], want["test_imsize"])
        assert config.drop_rate == want["drop_rate"]
    if "RA_level" in want:
        assert config.randaugment_magnitude == int(want["RA_level"]) - 400


@pytest.mark.parametrize("number", [50, 101, 152, 200])
def test_batch_normalized_resnet(number):
    want, model = (
        TABLE[f"ResNet(BN,v2)-ResNet{number}"],
        build_model(f"bn_resnet{number}", device="meta"),
    )
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) == want["params"]
    assert len(parameters) == want["num_tensors"]


BLOCKS = reference.table("block_tables")


@pytest.mark.parametrize("key", BLOCKS)
def test_blocks(key):
    variant, rate = key.removesuffix(")").split(" (stochdepth_rate=")
    model = built(variant, stochastic_depth_rate=float(rate))
    blocks = [module for module in model.modules() if isinstance(module, NFBlock)]
    for block, want in zip(blocks, BLOCKS[key], strict=True):
        assert block.beta == pytest.approx(want["beta"], rel=1e-12)
        assert block.stochastic_depth.rate == pytest.approx(want["stochdepth_rate"], abs=1e-12)
        assert block.conv0.in_channels == want["in_ch"]
        assert block.conv2.out_channels == want["out_ch"]
        assert block.conv1.out_channels == want["width"]
        assert block.conv1.groups == want.get("groups", 1)
        assert block.conv1.stride == (want["stride"],) * 2
        assert (block.shortcut is not None) == want["use_projection"]
        if "se_hidden" in want:
            assert block.squeeze_excite.fc0.out_features == want["se_hidden"]
