"""NFNets compute what the authors' networks compute."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from normfree.models import NFNet, build_model
from normfree.nn import NFBlock
from normfree.nn.functional import squeeze_excite
from normfree.weights import deepmind
from tests.parity import reference

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


@pytest.fixture(scope="module")
def tiny():
    return reference.arrays("nfnet_tiny_forward")


def tiny_net(tiny, dtype=torch.float32, **fields):
    config = dataclasses.replace(reference.TINY, **fields)
    return reference.nfnet(config, reference.below("param", tiny), dtype).eval()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", ["even", "odd"])
@pytest.mark.parametrize("activation", ["gelu", "silu", "relu"])
def test_tiny_forward(tiny, activation, size, dtype):
    model = tiny_net(tiny, dtype, activation=activation)
    x = reference.nchw(tiny[f"input_{size}"], dtype)
    suffix = "_f64" if dtype == torch.float64 else ""
    want = reference.below(f"{activation}/{size}", tiny)
    pooled = model.forward_features(x).mean(dim=(2, 3))
    assert reference.relative_error(pooled, want["pool" + suffix]) <= TOLERANCE[dtype]
    assert reference.relative_error(model(x), want["logits" + suffix]) <= TOLERANCE[dtype]


def module_name(haiku):
    """Our module, through one of the parameters that the reference's module has."""
    leaf = "skip_gain" if "nf_block" in haiku else "gain"
    if haiku.endswith("squeeze_excite"):
        leaf = "~/linear/w"
    name = deepmind.parameter_name(f"{haiku}/{leaf}", reference.TINY.depths)
    for suffix in (".skip_gain", ".gain", ".fc0.weight"):
        name = name.removesuffix(suffix)
    return name


def test_tiny_inner_activations(tiny):
    model, captured = tiny_net(tiny), {}

    def capture(name):
        return lambda module, args, output: captured.__setitem__(name, (args[0], output))

    for name, module in model.named_modules():
        module.register_forward_hook(capture(name))
    model(reference.nchw(tiny["input_odd"][:1]))

    checked = 0
    for key, want in reference.below("capture_odd0_gelu", tiny).items():
        name = module_name(key)
        x, ours = captured[name]
        if name.endswith("squeeze_excite"):
            gate = model.get_submodule(name)
            squeeze, excite = (gate.fc0.weight, gate.fc0.bias), (gate.fc1.weight, gate.fc1.bias)
            ours = squeeze_excite(x, squeeze, excite) / 2  # stored before the factor
        assert reference.relative_error(ours, want.transpose(0, 3, 1, 2)) <= 1e-5, key
        checked += 1
    assert checked == 17


def test_memory_format_and_batch_do_not_change_the_function(tiny):
    model = tiny_net(tiny)
    x = reference.nchw(tiny["input_odd"])
    want = tiny["gelu/odd/logits"]
    last = model.to(memory_format=torch.channels_last)
    assert reference.relative_error(last(x.to(memory_format=torch.channels_last)), want) <= 1e-5
    assert reference.relative_error(model(x[1:]), want[1:]) <= 1e-5


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_f0_forward(dtype):
    stored = reference.arrays("nfnet_f0_forward")
    model = build_model("nfnet_f0", dtype=dtype).eval()
    state = model.state_dict()
    parameters = {}
    for key, check in reference.below("check", stored).items():
        name = deepmind.parameter_name(key, model.config.depths)
        value = reference.hashed_parameter(key, reference.haiku_shape(state[name]))
        flat = value.astype(np.float64).ravel()
        ours = [flat.sum(), (flat**2).sum(), flat[0], flat[-1]]
        np.testing.assert_allclose(ours, check, rtol=1e-9, atol=1e-9)
        parameters[key] = value
    model.load_state_dict(deepmind.state_dict(parameters, model.config.depths))

    want = reference.below("192x192", stored)
    suffix = "_f64" if dtype == torch.float64 else ""
    with torch.inference_mode():
        logits = model(reference.nchw(want["input"], dtype))
    assert reference.relative_error(logits, want["logits" + suffix]) <= TOLERANCE[dtype]


COUNTS = {k: v for k, v in reference.table("param_counts").items() if k.startswith("NFNet-")}


@pytest.mark.parametrize("variant", COUNTS)
def test_variants_are_the_reference_s(variant):
    want = COUNTS[variant]
    name = variant.lower().replace("-", "_").replace("+", "_plus")
    model = build_model(name, device="meta")
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) == want["params"]
    assert len(parameters) == want["num_tensors"]
    assert list(model.buffers()) == []
    config = model.config
    assert (config.train_size, config.test_size) == (want["train_imsize"], want["test_imsize"])
    assert config.drop_rate == want["drop_rate"]
    assert config.randaugment_magnitude == int(want["RA_level"]) - 400


BLOCKS = {k: v for k, v in reference.table("block_tables").items() if k.startswith("NFNet-")}


@pytest.mark.parametrize("key", BLOCKS)
def test_blocks_are_the_reference_s(key):
    variant = key.split()[0]
    own = {"NFNet-tiny": reference.TINY, "NFNet-micro": reference.MICRO}
    if variant in own:
        config = dataclasses.replace(own[variant], stochastic_depth_rate=0.25)
        model = NFNet(config, device="meta")
    else:
        name = variant.lower().replace("-", "_").replace("+", "_plus")
        model = build_model(name, device="meta")
    blocks = [m for m in model.modules() if isinstance(m, NFBlock)]
    for block, want in zip(blocks, BLOCKS[key], strict=True):
        assert block.beta == pytest.approx(want["beta"], rel=1e-12)
        assert block.stochastic_depth.rate == pytest.approx(want["stochdepth_rate"], abs=1e-12)
        assert block.conv0.in_channels == want["in_ch"]
        assert block.conv2.out_channels == want["out_ch"]
        assert block.conv1.out_channels == want["width"]
        assert block.conv1.groups == block.conv1b.groups == want["groups"]
        assert block.conv1.stride == (want["stride"],) * 2
        assert block.squeeze_excite.fc0.out_features == want["se_hidden"]
        assert (block.shortcut is not None) == want["use_projection"]
