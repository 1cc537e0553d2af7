"""Squeeze-and-excite."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.nn.functional import squeeze_excite


class SqueezeExcite(nn.Module):
    r"""Scale each channel by a gate in (0, 2) that is computed from all of them.

    .. math:: y = x \cdot 2\,\sigma(W_1 \max(0, W_0 \bar x + b_0) + b_1)

    Args:
        channels: of the feature map.
        ratio: hidden units per channel of the output; at least one unit is kept.
        source_channels: channels of the map that the gate is computed from; the map it scales, by
            default.
        factor: the 2, which keeps the variance; batch-normalized networks have 1.
        divisor: the hidden units are the nearest multiple of it; 1 rounds down.
        device: where the parameters live.
        dtype: of the parameters.

    Example:
        >>> SqueezeExcite(8, ratio=0.5)(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])

    Source: section 3 and appendix C of the paper (the factor 2 keeps the variance).
    Initialisation: LeCun, as a normal distribution truncated at two standard deviations.
    """

    def __init__(
        self,
        channels: int,
        ratio: float = 0.5,
        source_channels: int | None = None,
        *,
        factor: float = 2.0,
        divisor: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.factor = factor
        hidden = max(divisor, int(channels * ratio + divisor // 2) // divisor * divisor)
        self.fc0 = nn.Linear(source_channels or channels, hidden, device=device, dtype=dtype)
        self.fc1 = nn.Linear(hidden, channels, device=device, dtype=dtype)
        for fc in (self.fc0, self.fc1):
            std = fc.in_features**-0.5
            nn.init.trunc_normal_(fc.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(fc.bias)

    def gate(self, source: Float[Tensor, "n s h w"]) -> Float[Tensor, "n c 1 1"]:
        """The factor of each channel, in (0, ``factor``)."""
        squeeze, excite = (self.fc0.weight, self.fc0.bias), (self.fc1.weight, self.fc1.bias)
        return squeeze_excite(source, squeeze, excite, self.factor)

    def forward(
        self, x: Float[Tensor, "n c h w"], source: Float[Tensor, "n s _h _w"] | None = None
    ) -> Float[Tensor, "n c h w"]:
        """Multiply the map by the gate of ``source``; by its own where there is none."""
        return x * self.gate(x if source is None else source)
