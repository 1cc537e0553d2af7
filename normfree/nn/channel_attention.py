"""Efficient channel attention (ECA), of timm's light NFNets."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn

from normfree.nn.folding import FoldedGraph, Gated, Value
from normfree.nn.fused import squeeze_excite_add


class EfficientChannelAttention(nn.Module):
    r"""Scale each channel by a gate in (0, 2) computed from the channels next to it.

    .. math:: y = x \cdot 2\,\sigma(w * \bar x), \qquad
        |w| = \text{the odd number at or above } \lfloor(\log_2 C + 1) / 2\rfloor,
        \text{ at least } 3

    Args:
        channels: channels :math:`C` of the feature map.
        factor: the factor 2, which preserves the variance; batch-normalized networks use 1.
        device: device of the parameters.
        dtype: data type of the parameters.

    Example:
        >>> attention = EfficientChannelAttention(256)
        >>> attention(torch.randn(2, 256, 5, 5)).shape, attention.weight.shape
        (torch.Size([2, 256, 5, 5]), torch.Size([5]))

    Source: Wang et al. (2020), as in timm.

    Differs from: timm, where the kernel decays as filters do. Here it is a vector: it is clipped as
    a whole and does not decay.
    """

    def __init__(
        self,
        channels: int,
        *,
        factor: float = 2.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.factor = factor
        size = max(int((math.log2(channels) + 1) / 2) | 1, 3)
        self.weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
        std = size**-0.5
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        source: None = None,
        skip: Float[Tensor, "n c h w"] | None = None,
        scale: Tensor | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Multiply the map by its gate and by ``scale``, and add it to the skip path.

        Args:
            x: the map.
            source: None: the gate is computed from the map itself.
            skip: the skip path; 0 if None.
            scale: a further factor, one number or (n, 1, 1, 1); 1 if None.
        """
        scales = () if scale is None else (scale.reshape(-1, 1),)
        return squeeze_excite_add(skip, x, self._gate, (self.weight, *scales))

    def _gate(
        self,
        pooled: Float[Tensor, "n c"],
        weight: Float[Tensor, " k"],
        scale: Float[Tensor, "_n 1"] | None = None,
    ) -> Float[Tensor, "n c"]:
        """The factor of each channel from the mean over space, times the scale of each image."""
        z = F.conv1d(pooled[:, None], weight[None, None], padding=len(weight) // 2)[:, 0]
        gate = self.factor * torch.sigmoid(z)
        return gate if scale is None else gate * scale

    def fold(
        self,
        graph: FoldedGraph,
        name: str,
        x: Value,
        source: None = None,
        skip: Value | None = None,
        scale: float | None = None,
    ) -> Value:
        """Move the factor into the convolution of ``x``, and the scale into the gate."""
        y = x * self.factor
        pooled = (y.written() * (1 / self.factor)).mean((2, 3))
        size = len(self.weight)
        conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False, device="meta")
        weight: Any = (self.weight * pooled.scale)[None, None]
        conv.weight = nn.Parameter(weight.to(graph.dtype, copy=True), requires_grad=False)
        gate = graph.call(f"{name}.conv", conv, pooled.value[:, None]).sigmoid()[
            :, 0, :, None, None
        ]
        gated = Gated(y, gate if scale is None else gate * scale)
        return gated if skip is None else skip + gated

    def extra_repr(self) -> str:  # noqa: D102
        return f"size={len(self.weight)}, factor={self.factor:g}"
