"""The normalizer-free residual block."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from normfree.nn.activations import ScaledActivation
from normfree.nn.conv import WSConv2d
from normfree.nn.dropout import StochasticDepth
from normfree.nn.functional import avg_pool2d_same
from normfree.nn.squeeze_excite import SqueezeExcite

#: Where squeeze-and-excite sits: on the branch's output, on the input of the last convolution,
#: or straddling it (computed from its input, applied to its output); or nowhere.
SEPlace = Literal["output", "bottleneck", "straddled", "none"]


class Shortcut(nn.Module):
    """The skip path of a transition block: a 1×1 convolution, after 2×2 mean pooling if it strides.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: 1 or 2.
        pool: whether to stride by mean pooling; else the convolution itself strides.
        device: where the parameters live.
        dtype: of the parameters.

    Example:
        >>> Shortcut(8, 16, stride=2)(torch.randn(1, 8, 5, 5)).shape
        torch.Size([1, 16, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        pool: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.pool = pool and stride > 1
        conv_stride = 1 if self.pool else stride
        self.conv = WSConv2d(in_channels, out_channels, 1, conv_stride, device=device, dtype=dtype)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Pool if strided, then project."""
        return self.conv(avg_pool2d_same(x) if self.pool else x)


class NFBlock(nn.Module):
    r"""Bottleneck block: transition (figure 5) or plain (figure 6).

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
        group_width: channels of a group; None for one dense group.
        stride: of the first 3×3 convolution and of the skip path. A block that strides or changes
            the channels is a transition block.
        alpha: :math:`\alpha`, the scale of the residual branch.
        beta: :math:`\beta`, one over the standard deviation that the input has at initialisation.
        second_conv: whether there is the second 3×3 convolution.
        pointwise_groups: groups of the two 1×1 convolutions.
        pool_shortcut: whether the skip path strides by mean pooling.
        se_place: where squeeze-and-excite sits.
        se_ratio: its hidden units per channel.
        activation: a name of :data:`normfree.nn.ACTIVATIONS`.
        stochastic_depth_rate: probability that an example skips the branch.
        stream: number of the block, for its counted randomness.
        device: where the parameters live.
        dtype: of the parameters.

    Example:
        >>> block = NFBlock(16, 32, width=16, group_width=8, stride=2)
        >>> block(torch.randn(2, 16, 7, 7)).shape
        torch.Size([2, 32, 4, 4])

    Source: figures 5 and 6 and appendix C of the paper; ``straddled`` is figure 8.

    Differs from: the paper's text, where :math:`\beta` is the standard deviation and divides the
    input *before* the activation; in the authors' code and here it multiplies *after* it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        group_width: int | None = None,
        stride: int = 1,
        alpha: float = 0.2,
        beta: float = 1.0,
        second_conv: bool = True,
        pointwise_groups: int = 1,
        pool_shortcut: bool = True,
        se_place: SEPlace = "output",
        se_ratio: float = 0.5,
        activation: str = "gelu",
        stochastic_depth_rate: float = 0.0,
        stream: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        on: dict[str, Any] = {"device": device, "dtype": dtype}
        groups = width // (group_width or width)
        self.alpha, self.beta = alpha, beta
        self.se_place = se_place
        self.activation = ScaledActivation(activation)
        self.conv0 = WSConv2d(in_channels, width, 1, groups=pointwise_groups, **on)
        self.conv1 = WSConv2d(width, width, 3, stride, groups=groups, **on)
        self.conv1b = WSConv2d(width, width, 3, groups=groups, **on) if second_conv else None
        self.conv2 = WSConv2d(width, out_channels, 1, groups=pointwise_groups, **on)
        if se_place != "none":
            channels = width if se_place == "bottleneck" else out_channels
            source = width if se_place == "straddled" else channels
            self.squeeze_excite = SqueezeExcite(channels, se_ratio, source, **on)
        self.stochastic_depth = StochasticDepth(stochastic_depth_rate, stream)
        self.skip_gain = nn.Parameter(torch.zeros((), **on))
        transition = stride > 1 or in_channels != out_channels
        self.shortcut = (
            Shortcut(in_channels, out_channels, stride, pool=pool_shortcut, **on)
            if transition
            else None
        )

    def forward(
        self, x: Float[Tensor, "n i h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n o h2 w2"]:
        """Add the scaled residual branch to the skip path."""
        a = self.activation(x) * self.beta
        skip = x if self.shortcut is None else self.shortcut(a)
        branch = self.stochastic_depth(self.branch(a), keys)
        return skip + branch * (self.skip_gain * self.alpha)

    def branch(self, a: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The residual branch SE(F(a)), of unit variance at initialisation."""
        act = self.activation
        x = self.conv0(a)
        x = self.conv1(act(x))
        if self.conv1b is not None:
            x = self.conv1b(act(x))
        match self.se_place:
            case "output":
                return self.squeeze_excite(self.conv2(act(x)))
            case "bottleneck":
                return self.conv2(act(self.squeeze_excite(x)))
            case "straddled":
                a = act(x)
                return self.squeeze_excite(self.conv2(a), a)
            case _:
                return self.conv2(act(x))

    def extra_repr(self) -> str:  # noqa: D102
        return f"alpha={self.alpha:g}, beta={self.beta:.6g}"
