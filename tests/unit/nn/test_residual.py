"""The residual block and squeeze-and-excite."""

from __future__ import annotations

import pytest
import torch

from normfree import UserError
from normfree.nn import (
    BlockSpec,
    BottleneckSpec,
    Layers,
    NFBlock,
    Residual,
    ScaledActivation,
    Shortcut,
    SqueezeExcite,
)


def block_of(in_channels, out_channels, stride=1, *, dtype=None, **residual):
    spec = BottleneckSpec(
        in_channels=in_channels, out_channels=out_channels, stride=stride, width=16, groups=2
    )
    return NFBlock(spec, Residual(**{"beta": 0.9, **residual}), Layers(dtype=dtype))


def plain_block(**changes):
    return block_of(16, 16, **changes)


def test_a_fresh_plain_block_is_the_identity():
    block, x = plain_block(), torch.randn(2, 16, 5, 7)
    assert block.skip_gain.item() == 0
    assert block.shortcut is None
    assert torch.equal(block(x), x)


def test_a_fresh_transition_block_is_its_shortcut():
    block = block_of(16, 24, 2)
    x = torch.randn(2, 16, 5, 7)
    want = block.shortcut(ScaledActivation("gelu")(x) * 0.9)
    torch.testing.assert_close(block(x), want, rtol=1e-6, atol=1e-6)  # β and γ are one constant
    assert torch.equal(block(x), block.shortcut(block.act0(x, 0.9)))
    assert want.shape == (2, 24, 3, 4)


@pytest.mark.parametrize(("stride", "out_channels"), [(2, 16), (1, 24), (2, 24)])
def test_blocks_that_stride_or_change_channels_project(stride, out_channels):
    block = block_of(16, out_channels, stride)
    assert block.shortcut is not None


def test_the_branch_is_scaled_by_alpha_and_gain():
    x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    torch.manual_seed(0)
    block = plain_block(alpha=0.2, dtype=torch.float64)
    torch.nn.init.ones_(block.skip_gain)
    branch = (block(x) - x) / 0.2
    torch.nn.init.constant_(block.skip_gain, -3.0)
    torch.testing.assert_close(block(x), x - 3 * 0.2 * branch)
    block.alpha = 0.5
    torch.testing.assert_close(block(x), x - 3 * 0.5 * branch)


def test_only_the_gain_has_a_gradient_at_initialization():
    block = plain_block()
    block(torch.randn(2, 16, 5, 5)).square().sum().backward()
    assert block.skip_gain.grad.abs() > 0
    assert block.conv0.weight.grad.abs().max() == 0


def test_stochastic_depth_drops_the_branch_and_keeps_the_skip():
    block = plain_block(stochastic_depth_rate=0.5)
    torch.nn.init.ones_(block.skip_gain)
    x, keys = torch.randn(64, 16, 3, 3), torch.arange(64)
    skipped = (block(x, keys) == x).flatten(1).all(dim=1)
    assert 16 < skipped.sum() < 48
    torch.testing.assert_close(block(x, keys)[~skipped], block.eval()(x)[~skipped])
    assert (block(x, keys) != x).flatten(1).any(dim=1).all()


def test_nothing_is_in_place():
    block, x = plain_block(), torch.randn(2, 16, 5, 5)
    before = x.clone()
    block(x).sum().backward()
    assert torch.equal(x, before)


def test_the_shortcut_pools_before_it_projects():
    spec = BlockSpec(in_channels=4, out_channels=8, stride=2)
    shortcut, x = Shortcut(spec, Layers()), torch.randn(1, 4, 5, 5)
    want = shortcut.conv(torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True))
    assert torch.equal(shortcut(x), want)


def test_gates_are_in_0_2_with_mean_one_at_initialization():
    torch.manual_seed(0)
    gates = [SqueezeExcite(64)(torch.ones(1, 64, 1, 1)).flatten() for _ in range(200)]
    gates = torch.cat(gates)
    assert gates.min() > 0
    assert gates.max() < 2
    assert gates.mean().item() == pytest.approx(1, abs=0.02)
    x = torch.randn(512, 64, 6, 6)
    assert SqueezeExcite(64)(x).var().item() == pytest.approx(1, abs=0.05)


def test_squeeze_excite_has_at_least_one_hidden_unit_and_lecun_weights():
    assert SqueezeExcite(3, ratio=0.25).fc0.out_features == 1
    assert SqueezeExcite(10, ratio=0.25).fc0.out_features == 2
    torch.manual_seed(0)
    gate = SqueezeExcite(512, ratio=0.5)
    for fc in (gate.fc0, gate.fc1):
        std = fc.in_features**-0.5
        assert fc.weight.abs().max() <= 2 * std
        assert fc.weight.std().item() == pytest.approx(0.8796 * std, rel=0.01)  # of the truncation
        assert (fc.bias == 0).all()


def test_beta_before_the_activation_matches_the_paper_text():
    x = torch.randn(2, 16, 5, 5)
    torch.manual_seed(0)
    block = block_of(16, 24, 2, beta_place="before")
    assert torch.equal(block(x), block.shortcut(ScaledActivation("gelu")(x * 0.9)))


def test_the_hidden_layer_has_relu_or_the_activation_of_the_network():
    x = torch.randn(2, 8, 5, 5)
    for activation, function in ((None, torch.relu), (ScaledActivation("silu"),) * 2):
        gate = SqueezeExcite(8, activation=activation)
        hidden = function(gate.fc0(x.mean(dim=(2, 3))))
        want = 2 * torch.sigmoid(gate.fc1(hidden))[:, :, None, None]
        torch.testing.assert_close(gate.gate(x), want)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"groups": 3}, r"groups must divide the channels \(16,\); got 3"),
        ({"pointwise_groups": 16, "out_channels": 24}, "pointwise_groups must divide the channels"),
        ({"stride": 3}, "stride should be 1 or 2; got 3"),
        ({"width": 10**9}, "width should be less than or equal to 65536"),
    ],
    ids=str,
)
def test_invalid_blocks(fields, message):
    with pytest.raises(UserError, match=message):
        BottleneckSpec(**{"in_channels": 16, "out_channels": 16, "width": 16, **fields})
