"""Parts of batch normalization, to find out which of them a network needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from normfree.nn import ScaledActivation


class PartlyDetached(nn.Module):
    """Batch normalization in training, without the gradient through some of its statistics."""

    def __init__(self, norm: nn.BatchNorm2d, detached: Iterable[str]) -> None:
        super().__init__()
        self.weight, self.bias, self.detached = norm.weight, norm.bias, frozenset(detached)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize by the batch, also in evaluation."""
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
        mean = mean.detach() if "mean" in self.detached else mean
        variance = variance.detach() if "std" in self.detached else variance
        y = (x - mean) * (variance + 1e-5).rsqrt()
        return y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class Before(nn.Module):
    """An activation, and what comes before it."""

    def __init__(self, first: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.activation = first, activation

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Apply one after the other."""
        return self.activation(self.first(x), scale)


class Centered(nn.Module):
    """Maps without the mean of each channel.

    Args:
        decay: of a running mean, which is subtracted before it sees the batch; 0: the mean of the
            batch itself, also in evaluation.
        gradient: whether gradients lose their mean, too, as they do where the mean is a function of
            the batch.
    """

    def __init__(self, decay: float = 0.0, *, gradient: bool = True) -> None:
        super().__init__()
        self.decay, self.gradient = decay, gradient
        self.running: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Subtract it."""
        own = x.mean((0, 2, 3), keepdim=True)
        mean = own.detach()
        if self.decay:
            mean = mean if self.running is None else self.running
            if self.training:
                self.running = torch.lerp(own.detach(), mean, self.decay)
        y = x - mean
        return y - (own - own.detach()) if self.gradient else y


def put_before(model: nn.Module, pattern: str, first: Callable[[], nn.Module]) -> None:
    """Change what the activations of these names see."""
    for name, module in list(model.named_modules()):
        if isinstance(module, ScaledActivation) and re.search(pattern, name):
            owner, _, leaf = name.rpartition(".")
            if not owner.endswith("squeeze_excite"):
                setattr(model.get_submodule(owner), leaf, Before(first(), module))
