"""A tiny NFNet matches the authors' network, layer by layer."""

from __future__ import annotations

import dataclasses

import pytest
import torch

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
    """The name of our module, found through a parameter of the reference's module."""
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
