"""With or without normalization: what a convolution is, and what stands before it.

Without, a convolution is weight-standardized and an activation scaled. With batch normalization,
for the networks that the paper compares with, it is a plain one without bias, after a normalized,
unscaled activation.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.nn.activations import ScaledActivation
from normfree.nn.conv import SameConv2d, WSConv2d

Normalization = Literal["none", "batch"]


class BatchNormActivation(nn.Module):
    """Batch normalization, then an activation without gain.

    Args:
        channels: of the feature map.
        activation: a name of :data:`normfree.nn.ACTIVATIONS`.
        device: where the parameters live.
        dtype: of the parameters.

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


def new_activation(
    normalization: Normalization, activation: str, channels: int, **on: Any
) -> ScaledActivation | BatchNormActivation:
    """What stands before a convolution.

    >>> new_activation("none", "relu", 8)
    ScaledActivation(relu, gain=1.71396)
    """
    if normalization == "none":
        return ScaledActivation(activation)
    return BatchNormActivation(channels, activation, **on)


def new_conv(normalization: Normalization, *args: Any, **kwargs: Any) -> SameConv2d:
    """A convolution, with the arguments of :class:`normfree.nn.WSConv2d`.

    >>> type(new_conv("none", 8, 8, 3)).__name__, new_conv("batch", 8, 8, 3).bias
    ('WSConv2d', None)
    """
    kind = WSConv2d if normalization == "none" else partial(SameConv2d, bias=False)
    return kind(*args, **kwargs)
