"""A convolution before batch normalization as one with Scaled Weight Standardization."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from normfree.nn import SameConv2d, WSConv2d
from normfree.nn.functional import standardize_weight

#: What becomes of the filters.
Weights = Literal["keep", "new"]


def obstacle(conv: nn.Module) -> str | None:
    """Why a convolution cannot be standardized; None if it can.

    >>> obstacle(nn.Conv2d(8, 8, 3, groups=8)), obstacle(nn.Conv2d(8, 8, 1, groups=8))
    (None, 'its filters have one weight, which standardization would make zero')
    """
    if not isinstance(conv, nn.Conv2d):
        return "only two-dimensional convolutions can be standardized"
    if isinstance(conv, SameConv2d):
        return "is a layer of this package"
    if conv.padding_mode != "zeros":
        return f"pads by {conv.padding_mode!r}, and standardized convolutions by zeros"
    if conv.weight[0].numel() == 1:
        return "its filters have one weight, which standardization would make zero"
    if type(conv) is not nn.Conv2d and not _pads_same(conv):
        return f"{type(conv).__name__} may compute something else than a convolution"
    return None


@torch.no_grad()
def standardized(conv: nn.Conv2d, weights: Weights, variance: float = 1.0) -> WSConv2d:
    r"""The standardized form of a convolution, whose output has unit variance.

    Args:
        conv: the convolution, of any stride, dilation and number of groups.
        weights: ``"keep"`` keeps each filter but for its mean and scale, which standardization
            replaces; ``"new"`` draws new filters.
        variance: expected variance of the input; the gains start at its inverse square root.

    Example:
        >>> conv = nn.Conv2d(4, 8, 3, padding=1)
        >>> y = standardized(conv, "keep")(torch.randn(64, 4, 16, 16))
        >>> abs(y[..., 1:-1, 1:-1].var().item() - 1) < 0.1
        True
    """
    padding: Any = conv.padding
    if _pads_same(conv) or padding == "same":
        padding = "same"
    on: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    new = WSConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        padding,
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        **on,
    )
    if weights == "keep":  # of unit norm, as new ones are: AGC compares gradients with it
        new.weight.copy_(standardize_weight(conv.weight, torch.ones_like(new.gain)))
    new.gain.fill_(variance**-0.5)
    new.weight.requires_grad_(conv.weight.requires_grad)
    return new


def _pads_same(conv: nn.Conv2d) -> bool:
    """Whether it is timm's convolution with TensorFlow's padding."""
    return type(conv).__name__ == "Conv2dSame"
