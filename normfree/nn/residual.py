"""The normalizer-free residual block."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from normfree.errors import unknown_name
from normfree.nn.dropout import StochasticDepth
from normfree.nn.functional import avg_pool2d_same
from normfree.nn.normalization import Normalization, new_activation, new_conv
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
        normalization: ``"none"`` or ``"batch"``.
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
        normalization: Normalization = "none",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.pool = pool and stride > 1
        conv_stride = 1 if self.pool else stride
        self.conv = new_conv(
            normalization, in_channels, out_channels, 1, conv_stride, device=device, dtype=dtype
        )

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
        se_divisor: what their number is a multiple of.
        normalization: ``"batch"`` makes the batch-normalized twin: plain convolutions, each after
            normalization and an unscaled activation; neither α, β nor SkipInit.
        activation: a name of :data:`normfree.nn.ACTIVATIONS`.
        stochastic_depth_rate: probability that an example skips the branch.
        stream: number of the block, for its counted randomness.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        UserError: there is no such activation or place of squeeze-and-excite.

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
        se_divisor: int = 1,
        normalization: Normalization = "none",
        activation: str = "gelu",
        stochastic_depth_rate: float = 0.0,
        stream: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if se_place not in get_args(SEPlace):
            raise unknown_name("place of squeeze-and-excite", se_place, get_args(SEPlace))
        on: dict[str, Any] = {"device": device, "dtype": dtype}
        groups = width // (group_width or width)
        free = normalization == "none"
        self.alpha, self.beta = (alpha, beta) if free else (1.0, 1.0)
        self.second_conv, self.se_place = second_conv, se_place
        conv = partial(new_conv, normalization, **on)
        act = partial(new_activation, normalization, activation, device=device, dtype=dtype)

        self.act0 = act(in_channels)
        self.conv0 = conv(in_channels, width, 1, groups=pointwise_groups)
        self.act1 = act(width)
        self.conv1 = conv(width, width, 3, stride, groups=groups)
        if second_conv:
            self.act1b = act(width)
            self.conv1b = conv(width, width, 3, groups=groups)
        self.act2 = act(width)
        self.conv2 = conv(width, out_channels, 1, groups=pointwise_groups)
        if se_place != "none":
            channels = width if se_place == "bottleneck" else out_channels
            source = width if se_place == "straddled" else channels
            factor = 2.0 if free else 1.0
            self.squeeze_excite = SqueezeExcite(
                channels, se_ratio, source, factor=factor, divisor=se_divisor, **on
            )
        self.stochastic_depth = StochasticDepth(stochastic_depth_rate, stream)
        self.skip_gain = nn.Parameter(torch.zeros((), **on)) if free else None
        self.shortcut = None
        if stride > 1 or in_channels != out_channels:
            self.shortcut = Shortcut(
                in_channels,
                out_channels,
                stride,
                pool=pool_shortcut,
                normalization=normalization,
                **on,
            )

    def forward(
        self, x: Float[Tensor, "n i h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n o h2 w2"]:
        """Add the scaled residual branch to the skip path."""
        a = self.act0(x) * self.beta
        skip = x if self.shortcut is None else self.shortcut(a)
        branch = self.stochastic_depth(self.branch(a), keys)
        if self.skip_gain is not None:
            branch = branch * (self.skip_gain * self.alpha)
        return skip + branch

    def branch(self, a: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The residual branch SE(F(a)), of unit variance at initialisation."""
        x = self.conv1(self.act1(self.conv0(a)))
        if self.second_conv:
            x = self.conv1b(self.act1b(x))
        if self.se_place == "bottleneck":
            x = self.squeeze_excite(x)
        a = self.act2(x)
        x = self.conv2(a)
        if self.se_place == "output":
            x = self.squeeze_excite(x)
        elif self.se_place == "straddled":
            x = self.squeeze_excite(x, a)
        return x

    def extra_repr(self) -> str:  # noqa: D102
        return f"alpha={self.alpha:g}, beta={self.beta:.6g}"
