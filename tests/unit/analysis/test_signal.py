"""The theory of the paper's section 3, measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.analysis import signal_propagation, tiled_noise
from normfree.models import build_model
from normfree.nn import NFBlock
from tests.unit.models.shrunk import images, shrunk

SMALL = {"widths": (64, 128, 256, 256), "depths": (1, 1, 2, 1), "group_widths": (32,) * 4}


def fresh(seed, name="nfnet_f0", **fields):
    torch.manual_seed(seed)
    return build_model(name, **fields)


def ratios(seeds, count, size, **fields):
    """Measured / expected variance after each block, averaged over networks."""
    rows = []
    for seed in range(seeds):
        model = fresh(seed, **fields)
        noise = tiled_noise(model, count, size, torch.Generator().manual_seed(seed))
        signals = signal_propagation(model, noise, skip_gain=1)
        rows.append([signal.variance / signal.expected for signal in signals])
    return np.mean(rows, axis=0)


def test_f0_follows_the_analytic_sequence():
    """The ratio is within 15 % after each of the twelve blocks, at the training size."""
    measured = ratios(seeds=3, count=32, size=192)
    assert len(measured) == 12
    assert (np.abs(measured - 1) < 0.15).all(), measured


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
def test_every_activation_follows_the_analytic_sequence(activation):
    measured = ratios(seeds=4, count=32, size=128, activation=activation, **SMALL)
    assert (np.abs(measured - 1) < 0.15).all(), measured


def test_without_the_gain_the_variance_is_lost():
    """The two tests above fail if γ is left out."""
    model = fresh(0, **SMALL)
    for module in model.modules():
        if hasattr(module, "gain") and isinstance(module.gain, float):
            module.gain = 1.0
    noise = tiled_noise(model, 16, 64, torch.Generator().manual_seed(0))
    last = signal_propagation(model, noise, skip_gain=1)[-1]
    assert last.variance < 0.3 * last.expected


def test_mean_pooling_of_white_noise_is_what_the_sequence_leaves_out():
    """With white noise each strided transition keeps a quarter of the variance, hence the tiles."""
    signals = signal_propagation(
        fresh(0, **SMALL), torch.randn(16, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    )
    first, second, third, _, fourth = (signal.variance for signal in signals)
    for before, after in ((first, second), (second, third), (third, fourth)):
        assert 0.15 < after / before < 0.35


@pytest.mark.parametrize("name", ["nfnet_f0", "nf_resnet50", "nf_regnet_b0"])
def test_expected_is_what_beta_assumes(name):
    model = shrunk(name)
    blocks = [m for m in model.modules() if isinstance(m, NFBlock)]
    signals = signal_propagation(model, images())
    assert [s.name for s in signals] == [n for n, m in model.named_modules() if m in blocks]
    for signal, following in zip(signals, blocks[1:], strict=False):
        assert signal.expected == pytest.approx(following.beta**-2, rel=1e-9)


def test_what_is_measured():
    model = shrunk("nfnet_f0", dtype=torch.float64).eval()
    x = images().double()
    block = model.stages[0][0]
    entering = model.stem(x)
    signal = signal_propagation(model, x)[0]
    after = block(entering)
    assert signal.variance == pytest.approx(after.var(dim=(0, 2, 3)).mean().item(), rel=1e-5)
    mean = after.mean(dim=(0, 2, 3))
    assert signal.mean_square == pytest.approx(mean.square().mean().item(), rel=1e-5)
    torch.nn.init.zeros_(block.skip_gain)
    branch = (after - block(entering)) / (0.7 * block.alpha)
    assert signal.branch_variance == pytest.approx(
        branch.var(dim=(0, 2, 3)).mean().item(), rel=1e-5
    )


def test_the_model_is_left_as_it_was():
    model = shrunk("nfnet_f0")
    model.stages[1].eval()
    modes = [m.training for m in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    keys = torch.arange(3)
    want = model(images(), keys)
    signal_propagation(model, images(), skip_gain=1)
    with pytest.raises(RuntimeError):  # also restored after an error
        signal_propagation(model, images(channels=4), skip_gain=1)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(not m._forward_hooks for m in model.modules())
    assert torch.equal(model(images(), keys), want)
    assert all(p.requires_grad for p in model.parameters())


def test_a_gain_of_zero_leaves_the_skip_path_and_one_adds_alpha_squared():
    model = fresh(0, **SMALL)
    noise = tiled_noise(model, 16, 64, torch.Generator().manual_seed(0))
    own, one = (signal_propagation(model, noise, skip_gain=g) for g in (None, 1))
    assert own[0].branch_variance == one[0].branch_variance
    added = one[0].variance - own[0].variance
    assert added == pytest.approx(0.04 * one[0].branch_variance, abs=0.02)


def test_someone_else_s_network_is_refused():
    with pytest.raises(UserError, match="Linear has no ResidualBlock"):
        signal_propagation(nn.Linear(3, 2), torch.zeros(1, 3))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_tiles_are_as_wide_as_the_stem_strides(stride):
    model = fresh(0, stem_stride=stride, in_channels=2, **SMALL)
    noise = tiled_noise(model, 8, 32, torch.Generator().manual_seed(0))
    assert noise.shape == (8, 2, 32, 32)
    assert torch.equal(
        noise, noise[:, :, :stride, :stride].repeat(1, 1, 32 // stride, 32 // stride)
    )
    if stride > 1:
        assert not torch.equal(noise[:, :, 0, 0], noise[:, :, 1, 1])
    variance = model.stem(noise).var(dim=(0, 2, 3)).mean().item()
    assert variance == pytest.approx(1, abs=0.01)
