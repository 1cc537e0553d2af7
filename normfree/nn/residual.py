"""The normalizer-free residual block: figures 5 and 6 of the paper."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.nn.channels import Channels
from normfree.nn.dropout import StochasticDepth
from normfree.nn.fused import gated_add
from normfree.nn.layers import Layers
from normfree.nn.pooling import SameAvgPool2d
from normfree.nn.squeeze_excite import SESpec
from normfree.schema import Field, record

#: A drop probability.
Rate = Annotated[float, Field(ge=0, lt=1)]

#: Whether β is applied after the activation, as in the authors' code, or before, as in the text.
BetaPlace = Literal["after", "before"]

#: Places of squeeze-and-excite that leave the output of the last convolution as it is.
INNER = ("bottleneck", "none")


@record
class Residual:
    r"""How the residual branch of a block is combined with its skip path.

    Args:
        alpha: :math:`\alpha`, the scale of the branch.
        beta: :math:`\beta`, the inverse standard deviation of the input at initialization.
        beta_place: whether β is applied after or before the activation.
        stochastic_depth_rate: probability that the branch of an example is dropped.
        stream: number of the block, which seeds its counter-based masks.
    """

    alpha: Annotated[float, Field(ge=0)] = 0.2
    beta: Annotated[float, Field(gt=0)] = 1.0
    beta_place: BetaPlace = "after"
    stochastic_depth_rate: Rate = 0.0
    stream: Annotated[int, Field(ge=0)] = 0


@record
class BlockSpec:
    """The configuration shared by all residual blocks.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the block. A block that strides or changes channels is a transition block.
        pool_shortcut: whether the skip path strides by mean pooling rather than in its convolution.
    """

    in_channels: Channels
    out_channels: Channels
    stride: Literal[1, 2] = 1
    pool_shortcut: bool = True

    @property
    def transition(self) -> bool:
        """Whether the block is a transition block, whose skip path has a projection."""
        return self.stride > 1 or self.in_channels != self.out_channels


@record
class BottleneckSpec(BlockSpec):
    """The configuration of an :class:`NFBlock`.

    Args:
        width: channels of the 3×3 convolutions.
        groups: groups of the 3×3 convolutions.
        second_conv: whether to use a second 3×3 convolution.
        pointwise_groups: groups of the two 1×1 convolutions.
        se: squeeze-and-excite; the place ``"none"`` disables it.

    Raises:
        UserError: the groups do not divide their channels.
    """

    width: Channels
    groups: Channels = 1
    second_conv: bool = True
    pointwise_groups: Channels = 1
    se: SESpec = SESpec()

    def __post_init__(self) -> None:
        ends = (self.in_channels, self.width, self.out_channels)
        for name, groups, among in (
            ("groups", self.groups, (self.width,)),
            ("pointwise_groups", self.pointwise_groups, ends),
        ):
            if any(channels % groups for channels in among):
                raise UserError(f"{name} must divide the channels {among}; got {groups}")


class Shortcut(nn.Module):
    """The skip path of a transition block: a 1×1 convolution, after 2×2 mean pooling if it strides.

    Args:
        spec: configuration of the block.
        layers: factory for the convolution.

    Example:
        >>> spec = BlockSpec(in_channels=8, out_channels=16, stride=2)
        >>> Shortcut(spec, Layers())(torch.randn(1, 8, 5, 5)).shape
        torch.Size([1, 16, 3, 3])
    """

    def __init__(self, spec: BlockSpec, layers: Layers) -> None:
        super().__init__()
        pool = spec.pool_shortcut and spec.stride > 1
        self.pool = SameAvgPool2d() if pool else nn.Identity()
        self.conv = layers.conv(spec.in_channels, spec.out_channels, 1, 1 if pool else spec.stride)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Pool if the block strides, then project."""
        return self.conv(self.pool(x))


class ResidualBlock(nn.Module):
    r"""Pre-activation residual block with any branch.

    .. math:: a = \beta\,\gamma f(x), \qquad y = s(x, a) + \alpha\, g \, d(F(a))

    where :math:`g` is the SkipInit gain (a learnable scalar initialized to zero), :math:`d` is
    stochastic depth, and :math:`s` is the input :math:`x` in a plain block or the projected
    :math:`a` in a transition block. A subclass creates the layers of :math:`F` in
    :meth:`build_branch` and applies them in :meth:`branch`. Batch-normalized networks have no α, β
    or SkipInit gain.

    Args:
        spec: configuration of the block.
        residual: how the branch is combined with the skip path.
        layers: factory for the layers.

    Source: figures 5 and 6 and appendix C of the paper.

    Differs from: the paper's text, where :math:`\beta` is the standard deviation and divides the
    input *before* the activation (``beta_place="before"``). In the authors' code :math:`\beta` is
    its inverse and multiplies the result *after* the activation.
    """

    def __init__(self, spec: BlockSpec, residual: Residual, layers: Layers) -> None:
        super().__init__()
        self.out_channels = spec.out_channels
        normfree = layers.normfree
        self.alpha, self.beta = (residual.alpha, residual.beta) if normfree else (1.0, 1.0)
        self.beta_place = residual.beta_place
        self.act0 = layers.act(spec.in_channels)
        self.build_branch(spec, layers)
        self.stochastic_depth = StochasticDepth(residual.stochastic_depth_rate, residual.stream)
        self.skip_gain = nn.Parameter(torch.zeros((), **layers.on)) if normfree else None
        self.shortcut: nn.Module | None = Shortcut(spec, layers) if spec.transition else None

    def build_branch(self, spec: BlockSpec, layers: Layers) -> None:
        """Create the layers of the branch F, from ``in_channels`` to ``out_channels``."""
        raise NotImplementedError

    def branch(self, a: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The residual branch F(a), with unit variance at initialization."""
        raise NotImplementedError

    def forward(
        self, x: Float[Tensor, "n i h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n o h2 w2"]:
        """Add the scaled residual branch to the skip path."""
        a = self.activated(x)
        skip = x if self.shortcut is None else self.shortcut(a)
        if self.skip_gain is None:
            return skip + self.stochastic_depth(self.branch(a), keys)
        scale = self.stochastic_depth(self.skip_gain * self.alpha, keys)
        return self.add_branch(skip, a, scale)

    def add_branch(
        self, skip: Float[Tensor, "n o h2 w2"], a: Float[Tensor, "n i h w"], scale: Tensor
    ) -> Float[Tensor, "n o h2 w2"]:
        """The sum ``skip + scale · F(a)``; the scale is one number or (n, 1, 1, 1)."""
        return gated_add(skip, self.branch(a), scale)

    def activated(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n i h w"]:
        """The input of both paths, a = βγf(x)."""
        if self.beta == 1:
            return self.act0(x)
        if self.beta_place == "before":
            return self.act0(x * self.beta)
        return self.act0(x, self.beta)

    def extra_repr(self) -> str:  # noqa: D102
        return f"alpha={self.alpha:g}, beta={self.beta:.6g}"


class NFBlock(ResidualBlock):
    """Bottleneck block: 1×1 → 3×3 (grouped, strided) → 3×3 (grouped) → 1×1 → squeeze-and-excite.

    Args:
        spec: configuration of the block.
        residual: how the branch is combined with the skip path.
        layers: factory for the layers.

    Example:
        >>> spec = BottleneckSpec(in_channels=16, out_channels=32, width=16, groups=2, stride=2)
        >>> NFBlock(spec)(torch.randn(2, 16, 7, 7)).shape
        torch.Size([2, 32, 4, 4])

    Source: figures 5 and 6 of the paper; figure 8 for ``straddled`` squeeze-and-excite.
    """

    def __init__(
        self,
        spec: BottleneckSpec,
        residual: Residual | None = None,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(spec, residual or Residual(), layers or Layers())

    def build_branch(self, spec: BlockSpec, layers: Layers) -> None:
        """Create the convolutions, the activations between them, and squeeze-and-excite."""
        assert isinstance(spec, BottleneckSpec)
        width, out, pointwise = spec.width, spec.out_channels, spec.pointwise_groups
        self.conv0 = layers.conv(spec.in_channels, width, 1, groups=pointwise)
        self.act1 = layers.act(width)
        self.conv1 = layers.conv(width, width, 3, spec.stride, groups=spec.groups)
        self.second_conv = spec.second_conv
        if spec.second_conv:
            self.act1b = layers.act(width)
            self.conv1b = layers.conv(width, width, 3, groups=spec.groups)
        self.act2 = layers.act(width)
        self.conv2 = layers.conv(width, out, 1, groups=pointwise)
        self.se_place = spec.se.place
        if self.se_place != "none":
            channels = width if self.se_place == "bottleneck" else out
            source = width if self.se_place == "straddled" else None
            self.squeeze_excite = layers.squeeze_excite(spec.se, channels, source)

    def branch(self, a: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Apply the convolutions, with squeeze-and-excite at its configured place."""
        x, source = self.convolved(a)
        return x if self.se_place in INNER else self.squeeze_excite(x, source)

    def add_branch(
        self, skip: Float[Tensor, "n o h2 w2"], a: Float[Tensor, "n i h w"], scale: Tensor
    ) -> Float[Tensor, "n o h2 w2"]:
        """Add the branch in one pass, in which its gate and its scale are one factor."""
        x, source = self.convolved(a)
        if self.se_place in INNER:
            return gated_add(skip, x, scale)
        return self.squeeze_excite(x, source, skip, scale)

    def convolved(self, a: Float[Tensor, "n i h w"]) -> tuple[Tensor, Tensor | None]:
        """The output of the last convolution, and the source of its gate if it is another map."""
        x = self.conv1(self.act1(self.conv0(a)))
        if self.second_conv:
            x = self.conv1b(self.act1b(x))
        if self.se_place == "bottleneck":
            x = self.squeeze_excite(x)
        h = self.act2(x)
        return self.conv2(h), h if self.se_place == "straddled" else None
