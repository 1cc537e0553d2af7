"""Pooling with ``SAME`` padding, as layers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.nn.folding import FoldedGraph, Value, pad_same
from normfree.nn.functional import avg_pool2d_same, max_pool2d_same


class SameAvgPool2d(nn.Module):
    """2×2 mean with stride 2; at an odd edge, the mean of the pixels that exist.

    >>> SameAvgPool2d()(torch.tensor([[[[1.0, 2.0, 3.0]]]]))
    tensor([[[[1.5000, 3.0000]]]])
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Average."""
        return avg_pool2d_same(x)

    def fold(self, graph: FoldedGraph, name: str, x: Value) -> Value:
        """Fold to plain average pooling; constants commute with the mean."""
        x = x.written()
        layer = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        return Value(graph.call(name, layer, x.value), x.scale)


class SameMaxPool2d(nn.Module):
    """3×3 maximum with stride 2.

    >>> SameMaxPool2d()(torch.tensor([[[[-1.0, -2.0, -3.0, -4.0]]]]))
    tensor([[[[-1., -3.]]]])
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """The largest pixel of each window."""
        return max_pool2d_same(x)

    def fold(self, graph: FoldedGraph, name: str, x: Value) -> Value:
        """Fold to plain max pooling over an input padded with minus infinity."""
        padded = pad_same(x.proxy(), (3, 3), (2, 2), -torch.inf)
        return Value(graph.call(name, nn.MaxPool2d(3, 2), padded))


class SymmetricMaxPool2d(nn.MaxPool2d):
    """3×3 maximum with stride 2, padded by one pixel at every side, as in PyTorch's ResNets.

    >>> SymmetricMaxPool2d()(torch.tensor([[[[-1.0, -2.0, -3.0, -4.0]]]]))
    tensor([[[[-1., -2.]]]])
    """

    def __init__(self) -> None:
        super().__init__(3, stride=2, padding=1)

    def fold(self, graph: FoldedGraph, name: str, x: Value) -> Value:
        """The layer itself."""
        return Value(graph.call(name, nn.MaxPool2d(3, 2, 1), x.proxy()))
