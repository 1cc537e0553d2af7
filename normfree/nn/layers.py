"""The factory for a network's layers: the types of convolution and activation are chosen once.

Without normalization, convolutions are weight-standardized and activations are scaled. With batch
normalization, for the networks that the paper compares with, convolutions are plain and have no
bias. Each follows batch normalization and an unscaled activation.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import nn

from normfree.errors import UserError
from normfree.nn.activations import GainKind, ScaledActivation
from normfree.nn.channel_attention import EfficientChannelAttention
from normfree.nn.channels import MOST_CHANNELS
from normfree.nn.conv import SameConv2d, WSConv2d
from normfree.nn.normalization import BatchNormActivation, Normalization
from normfree.nn.pooling import SameMaxPool2d, SymmetricMaxPool2d
from normfree.nn.squeeze_excite import SESpec, SqueezeExcite

#: How convolutions with stride 2 are padded: the odd pixel after the map, or one at every side.
Padding = Literal["same", "symmetric"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """Factory for the layers of one network.

    Args:
        normalization: ``"none"``, or ``"batch"`` for the batch-normalized twin.
        activation: a name in :data:`normfree.nn.ACTIVATIONS`.
        gain: which γ the activation uses: the authors' constant or the exact value.
        padding: ``"same"`` as in TensorFlow, or ``"symmetric"`` as in PyTorch; they differ where
            the stride is 2 and the size is even.
        device: device of the parameters; ``"meta"`` allocates no memory.
        dtype: data type of the parameters.

    Example:
        >>> layers = Layers(activation="relu")
        >>> layers.act(8)
        ScaledActivation(relu, gain=1.71396)
        >>> type(layers.conv(8, 8, 3)).__name__
        'WSConv2d'
        >>> Layers(normalization="batch").conv(8, 8, 3).bias is None
        True
    """

    normalization: Normalization = "none"
    activation: str = "gelu"
    gain: GainKind = "reference"
    padding: Padding = "same"
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    @property
    def normfree(self) -> bool:
        """Whether the network has no normalization."""
        return self.normalization == "none"

    @property
    def on(self) -> dict[str, Any]:
        """Device and dtype, as keyword arguments for a layer."""
        return {"device": self.device, "dtype": self.dtype}

    def conv(
        self, in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1
    ) -> SameConv2d:
        """A convolution of ``size`` × ``size`` pixels, padded to keep the size at stride 1."""
        if max(in_channels, out_channels) > MOST_CHANNELS:
            raise UserError(
                f"a convolution has at most {MOST_CHANNELS:,} channels; "
                f"got one from {in_channels:,} to {out_channels:,}"
            )
        padding: Any = "same" if self.padding == "same" else size // 2
        shape = (in_channels, out_channels, size, stride, padding)
        if self.normfree:
            return WSConv2d(*shape, 1, groups, **self.on)
        return SameConv2d(*shape, 1, groups, bias=False, **self.on)

    def max_pool(self) -> nn.Module:
        """The 3×3 maximum with stride 2 of a ResNet's stem."""
        return SameMaxPool2d() if self.padding == "same" else SymmetricMaxPool2d()

    def act(self, channels: int) -> ScaledActivation | BatchNormActivation:
        """The activation that precedes a convolution, with normalization if the network uses it."""
        if self.normfree:
            return self.function()
        return BatchNormActivation(channels, self.activation, **self.on)

    def function(self) -> ScaledActivation:
        """The activation alone: scaled without normalization, bare with it."""
        return ScaledActivation(self.activation, gain=self.gain if self.normfree else 1.0)

    def squeeze_excite(
        self, spec: SESpec, channels: int, source_channels: int | None = None
    ) -> SqueezeExcite | EfficientChannelAttention:
        """Squeeze-and-excite for a feature map; without normalization the gate is doubled."""
        factor = 2.0 if self.normfree else 1.0
        if spec.kind == "eca":
            return EfficientChannelAttention(channels, factor=factor, **self.on)
        return SqueezeExcite(
            channels,
            spec.ratio,
            source_channels,
            factor=factor,
            divisor=spec.divisor,
            activation=self.function() if spec.activation == "network" else None,
            **self.on,
        )
