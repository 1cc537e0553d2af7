"""The normalizer-free residual block."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from normfree.nn.activations import ScaledActivation
from normfree.nn.conv import WSConv2d
from normfree.nn.dropout import StochasticDepth
from normfree.nn.functional import avg_pool2d_same
from normfree.nn.squeeze_excite import SqueezeExcite


class Shortcut(nn.Module):
    """The skip path of a transition block: 2×2 mean pooling where it strides, then 1×1 WSConv.

    >>> Shortcut(8, 16, stride=2)(torch.randn(1, 8, 5, 5)).shape
    torch.Size([1, 16, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv = WSConv2d(in_channels, out_channels, 1, device=device, dtype=dtype)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Pool if strided, then project."""
        return self.conv(avg_pool2d_same(x) if self.stride > 1 else x)


class NFBlock(nn.Module):
    r"""Bottleneck block of an NFNet: transition (figure 5) or plain (figure 6).

    .. math::
        a = \beta\,\gamma f(x), \qquad
        y = s(x, a) + \alpha\, g \, d\big(\mathrm{SE}(F(a))\big)

    with :math:`F` = 1×1 → 3×3 (grouped, strided) → 3×3 (grouped) → 1×1 convolutions with the
    activation between them, :math:`g` the SkipInit gain (a learnable scalar, zero at first),
    :math:`d` stochastic depth, and :math:`s` the input :math:`x` in a plain block or the projected
    :math:`a` in a transition block.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels of the 3×3 convolutions; a multiple of ``group_width``.
        group_width: channels of a group.
        stride: of the first 3×3 convolution and of the skip path. A block that strides or changes
            the channels is a transition block.
        alpha: :math:`\alpha`, the scale of the residual branch.
        beta: :math:`\beta`, one over the standard deviation that the input has at initialisation.
        se_ratio: hidden units of squeeze-and-excite per channel.
        activation: a name of :data:`normfree.nn.ACTIVATIONS`.
        stochastic_depth_rate: probability that an example skips the branch.
        stream: number of the block, for its counted randomness.
        device: where the parameters live.
        dtype: of the parameters.

    Example:
        >>> block = NFBlock(16, 32, width=16, group_width=8, stride=2)
        >>> block(torch.randn(2, 16, 7, 7)).shape
        torch.Size([2, 32, 4, 4])

    Source: figures 5 and 6 and appendix C of the paper.

    Differs from: the paper's text, where :math:`\beta` is the standard deviation and divides the
    input *before* the activation; in the authors' code and here it multiplies *after* it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        group_width: int,
        stride: int = 1,
        alpha: float = 0.2,
        beta: float = 1.0,
        se_ratio: float = 0.5,
        activation: str = "gelu",
        stochastic_depth_rate: float = 0.0,
        stream: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        on: dict[str, Any] = {"device": device, "dtype": dtype}
        groups = width // group_width
        self.alpha, self.beta = alpha, beta
        self.activation = ScaledActivation(activation)
        self.conv0 = WSConv2d(in_channels, width, 1, **on)
        self.conv1 = WSConv2d(width, width, 3, stride, groups=groups, **on)
        self.conv1b = WSConv2d(width, width, 3, groups=groups, **on)
        self.conv2 = WSConv2d(width, out_channels, 1, **on)
        self.squeeze_excite = SqueezeExcite(out_channels, se_ratio, **on)
        self.stochastic_depth = StochasticDepth(stochastic_depth_rate, stream)
        self.skip_gain = nn.Parameter(torch.zeros((), **on))
        transition = stride > 1 or in_channels != out_channels
        self.shortcut = Shortcut(in_channels, out_channels, stride, **on) if transition else None

    def forward(
        self, x: Float[Tensor, "n i h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n o h2 w2"]:
        """Add the scaled residual branch to the skip path."""
        act = self.activation
        a = act(x) * self.beta
        skip = x if self.shortcut is None else self.shortcut(a)
        branch = self.conv0(a)
        branch = self.conv1(act(branch))
        branch = self.conv1b(act(branch))
        branch = self.conv2(act(branch))
        branch = self.stochastic_depth(self.squeeze_excite(branch), keys)
        return skip + branch * (self.skip_gain * self.alpha)

    def extra_repr(self) -> str:  # noqa: D102
        return f"alpha={self.alpha:g}, beta={self.beta:.6g}"
