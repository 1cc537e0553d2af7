"""Batch normalization, for the networks that the paper compares with."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.nn.activations import ScaledActivation
from normfree.nn.folding import FoldedGraph, Value

Normalization = Literal["none", "batch"]


class BatchNormActivation(nn.Module):
    """Batch normalization followed by an activation without gain.

    Args:
        channels: channels of the feature map.
        activation: a name in :data:`normfree.nn.ACTIVATIONS`.
        device: device of the parameters.
        dtype: data type of the parameters.

    Example:
        >>> BatchNormActivation(4, "relu")(torch.randn(8, 4, 5, 5)).shape
        torch.Size([8, 4, 5, 5])
    """

    def __init__(
        self,
        channels: int,
        activation: str,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, device=device, dtype=dtype)
        self.activation = ScaledActivation(activation, gain=1.0)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalize over the batch, then activate."""
        return self.activation(self.norm(x))

    def fold(self, graph: FoldedGraph, name: str, x: Value) -> Value:
        """Add both layers; a later pass merges the normalization into a preceding convolution."""
        norm = copy.deepcopy(self.norm).eval()
        value = Value(graph.call(f"{name}.norm", norm, x.proxy()))
        return self.activation.fold(graph, f"{name}.activation", value)
