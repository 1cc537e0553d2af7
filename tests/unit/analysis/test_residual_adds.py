"""Residual networks in plain PyTorch, as torchvision and timm write them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import normfree
from normfree import UserError
from normfree.analysis import signal_propagation


class BasicBlock(nn.Module):
    """Adds in place, then activates."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        same = stride == 1 and channels == out
        self.downsample = None if same else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class NormFreeBlock(nn.Module):
    """α, β and a SkipInit gain, with the names that timm gives them."""

    def __init__(self, channels: int, beta: float, out: int | None = None) -> None:
        super().__init__()
        self.alpha, self.beta = 0.2, beta
        self.conv0 = nn.Conv2d(channels, channels, 1)
        self.conv1 = nn.Conv2d(channels, out or channels, 3, padding=1)
        self.downsample = nn.Conv2d(channels, out, 1) if out else None
        self.skipinit_gain = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(x) * self.beta
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.conv1(torch.relu(self.conv0(out)))
        out.mul_(self.skipinit_gain)
        return out * self.alpha + shortcut


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8)),
        nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


def test_every_block_of_a_resnet_is_found_and_measured() -> None:
    model = resnet()
    seen: dict[str, Tensor] = {}
    for name, block in model.named_modules():
        if isinstance(block, BasicBlock):
            block.bn2.register_forward_hook(
                lambda m, a, out, name=name: seen.__setitem__(name, out.clone())
            )
    signals = signal_propagation(model, torch.randn(4, 3, 16, 16))
    assert [signal.name for signal in signals] == ["1.0", "1.1", "2.0", "2.1"]
    for signal in signals:
        var = seen[signal.name].var(dim=(0, 2, 3))
        assert signal.branch_variance == pytest.approx(float(var.mean()), rel=1e-4)
        assert signal.expected is None
    assert model.training
    assert not any(m._forward_hooks for m in model.modules() if not isinstance(m, nn.BatchNorm2d))


def test_the_sequence_of_a_block_with_alpha_and_beta() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(NormFreeBlock(3, 1.0, out=8), NormFreeBlock(8, 1.04**-0.5))
    off = signal_propagation(model, torch.randn(4, 3, 8, 8))
    assert [signal.expected for signal in off] == [1.04, 1.08]
    assert [signal.branch_variance for signal in off] == [0, 0]
    on = signal_propagation(model, torch.randn(4, 3, 8, 8), skip_gain=1)
    assert all(signal.branch_variance > 0 for signal in on)
    assert not any(block.skipinit_gain.any() for block in model)


def test_several_additions_of_one_module() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.a(x)
            return torch.add(x, self.b(x), alpha=2)

    signals = signal_propagation(nn.Sequential(Twice()), torch.randn(2, 3, 4, 4))
    assert [signal.name for signal in signals] == ["0", "0 #2"]


def test_a_batch_normalized_network_of_ours() -> None:
    model = normfree.create_model("bn_resnet50", depths=(1, 1, 1, 1), widths=(32, 32, 32, 32))
    assert len(signal_propagation(model, torch.randn(2, 3, 32, 32))) == 4


def test_a_network_without_branches() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    with pytest.raises(UserError, match="no residual branch to measure"):
        signal_propagation(plain, torch.randn(1, 3, 8, 8))
