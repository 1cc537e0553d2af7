"""Layers, activations, gates and blocks, one by one: what is converted, what is left, and why."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import normfree
from normfree.conversion.activations import scaled_layer
from normfree.conversion.gates import Doubled
from normfree.nn import ResidualBlock, ScaledActivation, WSConv2d
from tests.unit.conversion.networks import (
    AttentiveBottleneck,
    BasicBlock,
    DropPath,
    ResNet,
    conv,
)


class Hardswish(nn.Module):
    """timm has classes of its own for some activations."""

    def forward(self, x):
        return F.hardswish(x)


@pytest.mark.parametrize(
    "layer",
    [
        *(nn.ReLU(), nn.ReLU6(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.ELU()),
        *(nn.ELU(0.5), nn.CELU(2.0), nn.SELU(), nn.LeakyReLU(), nn.LeakyReLU(0.2), nn.Tanh()),
        *(nn.Softplus(), nn.Softsign(), nn.LogSigmoid(), nn.Hardswish(), Hardswish()),
    ],
    ids=str,
)
def test_activations_keep_their_function_and_get_unit_variance(layer):
    scaled = scaled_layer(layer)
    assert isinstance(scaled, ScaledActivation)
    z = torch.randn(1 << 18, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scaled(z), scaled.gain * layer(z), rtol=1e-4, atol=1e-5)
    assert scaled(z).var().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("call", "gain"),
    [
        (F.relu, 1.714), (torch.relu, 1.714), (lambda x: x.relu_(), 1.714),
        (lambda x: F.relu(x, inplace=True), 1.714), (F.silu, 1.788),
        (lambda x: F.leaky_relu(x, 0.3), 1.4633), (lambda x: F.gelu(x, approximate="tanh"), 1.7015),
    ],
)  # fmt: skip
def test_calls_of_functions_and_methods(call, gain):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = conv(3, 8), nn.BatchNorm2d(8)

        def forward(self, x):
            return call(self.bn(self.conv(x)))

    model, report = normfree.convert(Net())
    (act,) = (m for m in model.modules() if isinstance(m, ScaledActivation))
    assert act.gain == pytest.approx(gain, abs=2e-3)
    assert report.traced
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model(x), act.gain * call(model.conv(x).clone()))


@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize("padding", [1, 0, "same", (1, 0)])
def test_convolutions_keep_their_shape(groups, padding):
    layer = nn.Conv2d(16, 32, 3, padding=padding, dilation=2, groups=groups)
    model, _ = normfree.convert(nn.Sequential(layer, nn.BatchNorm2d(32)))
    new = model[0]
    assert isinstance(new, WSConv2d)
    assert new.gain.shape == new.bias.shape == (32,)
    x = torch.randn(2, 16, 9, 9)
    assert model(x).shape == layer(x).shape
    with torch.no_grad():
        layer.weight.copy_(new.applied_weight())
        layer.bias.zero_()
    torch.testing.assert_close(model(x), layer(x), rtol=1e-4, atol=1e-5)


def left(*layers):
    """Why the first layers of a sequence are left; a convolution that is converted follows."""
    channels = 8
    model = nn.Sequential(conv(3, channels), nn.BatchNorm2d(channels), *layers)
    model, report = normfree.convert(model)
    return model, {(entry.name, entry.kind): entry.why for entry in report.left}, report


def test_convolutions_that_cannot_be_standardized_keep_their_batch_normalization():
    model, why, report = left(nn.Conv2d(8, 8, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU())
    assert "one weight" in why["2", "Conv2d"]
    assert "not known" in why["3", "BatchNorm2d"]
    assert report.batch_norms == ["3"]
    assert not report.complete
    assert "batch normalizations that remain: 3" in str(report)
    assert isinstance(model[4], ScaledActivation)  # its input is normalized

    _, why, _ = left(nn.Conv2d(8, 8, 3, padding_mode="reflect", padding=1), nn.BatchNorm2d(8))
    assert "'reflect'" in why["2", "Conv2d"]
    _, why, _ = left(nn.ConvTranspose2d(8, 8, 2), nn.BatchNorm2d(8))
    assert "two-dimensional" in why["2", "ConvTranspose2d"]


def test_convolutions_without_batch_normalization_are_left():
    model, why, report = left(conv(8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    assert why == {("2", "Conv2d"): "no batch normalization follows it"}
    assert type(model[3]) is nn.ReLU
    assert report.complete


def test_other_normalization_is_left():
    _, why, report = left(nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(8, 4), nn.BatchNorm1d(4))
    assert {kind for _, kind in why} == {"GroupNorm", "BatchNorm1d"}
    assert all("only batch normalization of feature maps" in reason for reason in why.values())
    assert report.complete


def test_batch_normalization_of_images_is_left():
    model = nn.Sequential(nn.BatchNorm2d(3), conv(3, 8), nn.BatchNorm2d(8), nn.ReLU())
    model, report = normfree.convert(model)
    assert [entry.name for entry in report.left] == ["0"]
    assert "images" in report.left[0].why
    assert report.batch_norms == ["0"]
    assert isinstance(model[1], WSConv2d)


def test_a_learned_slope_is_left():
    model, why, _ = left(nn.PReLU())
    assert "learned" in why["2", "PReLU"]
    assert type(model[2]) is nn.PReLU


def test_squeeze_and_excite_is_doubled_and_stochastic_depth_stays():
    model, _ = normfree.convert(ResNet(lambda i, o, s: AttentiveBottleneck(i, o, s, 0.5)))
    blocks = [m for m in model.modules() if isinstance(m, ResidualBlock)]
    assert all(isinstance(block.layers.se, Doubled) for block in blocks)
    assert type(blocks[0].layers.se.gate.act) is nn.ReLU
    assert all(isinstance(block.layers.drop_path, DropPath) for block in blocks)
    block = blocks[0]
    nn.init.ones_(block.skip_gain)
    x = torch.randn(64, 32, 8, 8)
    kept = (block.train()(x) - x).flatten(1).any(dim=1)
    assert 10 < kept.sum() < 54


def test_a_gate_that_is_written_in_place_is_doubled():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.gate = conv(3, 8), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)

        def forward(self, x):
            x = self.bn(self.conv(x))
            return x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()

    model, _ = normfree.convert(Gated())
    x = torch.randn(2, 3, 8, 8)
    y = model.conv(x)
    want = 2 * y * model.gate(y.mean((2, 3), keepdim=True)).sigmoid()
    torch.testing.assert_close(model(x), want)


def test_a_handwritten_swish_is_no_gate():
    class Swish(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = conv(3, 8), nn.BatchNorm2d(8)

        def forward(self, x):
            x = self.bn(self.conv(x))
            return x * torch.sigmoid(x)

    model, _ = normfree.convert(Swish())
    assert not any(isinstance(m, Doubled) for m in model.modules())


class TwoPaths(BasicBlock):
    """Two paths of equally many layers."""

    def forward(self, x):
        return self.relu(self.bn1(self.conv1(x)) + self.bn2(self.conv2(x)))


class Padded(BasicBlock):
    """A skip path that pads channels, as in the ResNets for CIFAR."""

    def __init__(self, i, o, stride=1):
        super().__init__(i, o, stride)
        self.downsample, self.changes, self.stride = None, i != o, stride

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.changes:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, x.shape[1]))
        return self.relu(out + x)


class Busy(BasicBlock):
    """Does more with the sum."""

    def forward(self, x):
        total = x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(total) * total


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (lambda i, o, s: TwoPaths(o, o) if i == o else BasicBlock(i, o, s), "equally many layers"),
        (Padded, "without a convolution"),
        (lambda i, o, s: Busy(o, o) if i == o else BasicBlock(i, o, s), "more than once"),
    ],
)
def test_unknown_blocks_are_left_whole_and_their_neighbors_converted(block, said):
    original = ResNet(block, depths=(1, 2), stem=32)
    model, report = normfree.convert(original)
    assert any(said in entry.why for entry in report.left), report
    assert report.batch_norms
    assert isinstance(model.conv1, WSConv2d)
    model(torch.randn(2, 3, 32, 32)).sum().backward()


def test_a_block_after_an_unknown_one_takes_its_activated_output():
    def block(i, o, s):
        return Padded(i, o, s) if i != o else BasicBlock(i, o, s)

    model, report = normfree.convert(ResNet(block, depths=(1, 3)))
    assert [entry.name for entry in report.left] == ["layers.1.0"]
    blocks = {n: m for n, m in model.named_modules() if isinstance(m, ResidualBlock)}
    acts = {name: m.act0.name for name, m in blocks.items()}
    assert list(acts.values()) == ["relu", "identity", "relu"]
    assert next(iter(acts)) == "layers.0.0.block"  # followed by its activation


def test_layers_that_a_network_shares_are_told_apart():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1, self.conv2 = conv(3, 8), nn.BatchNorm2d(8), conv(8, 8)
            self.bn2, self.relu, self.fc = nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(8, 8)

        def forward(self, x):
            x = self.relu(self.bn1(self.conv1(x)))
            x = self.relu(self.bn2(self.conv2(x)))
            return self.relu(self.fc(x.mean((2, 3))))

    model, _ = normfree.convert(Shared())
    x = torch.randn(2, 3, 8, 8)
    gain = ScaledActivation("relu").gain
    y = gain * model.conv2(gain * model.conv1(x).relu()).relu()
    torch.testing.assert_close(model(x), model.fc(y.mean((2, 3))).relu())


def test_the_device_dtype_mode_and_frozen_filters_stay():
    original = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8)).double().eval()
    original[0].requires_grad_(False)
    model, _ = normfree.convert(original)
    assert model[0].gain.dtype == torch.float64
    assert not model.training
    assert not model[0].weight.requires_grad
