"""NFNets, the networks from section 5 of the paper."""

from __future__ import annotations

import reprlib
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.models.classifier import ImageClassifier, expansion_head
from normfree.models.config import (
    ChannelTuple,
    ClassifierConfig,
    EndTuple,
    Ratio,
    RatioTuple,
    StrideTuple,
)
from normfree.models.dct_stem import DCTStem
from normfree.models.places import Place
from normfree.nn import BottleneckSpec, Layers
from normfree.nn.channels import Channels, round_channels
from normfree.nn.residual import Rate
from normfree.schema import record

#: Stride of each stem convolution, by the total stride of the stem.
STEM_STRIDES: dict[int, tuple[int, int, int, int]] = {
    1: (1, 1, 1, 1),
    2: (2, 1, 1, 1),
    4: (2, 1, 1, 2),
}


@record
class NFNetConfig(ClassifierConfig):
    """The configuration of an NFNet, in addition to the fields common to all families.

    Args:
        group_widths: channels per group in the 3×3 convolutions of each stage.
        bottleneck_ratios: ratio of 3×3 convolution width to block channels, per stage.
        bottleneck_of: whether a transition block uses its output or input channels, per stage.
        second_conv: whether blocks have a second 3×3 convolution.
        pointwise_groups: groups of the 1×1 convolutions in the blocks.
        head_multiplier: ratio of the channels of the last convolution to those of the last stage;
            may be fractional, and the product is rounded down.
        stem: ``"conv"``, or ``"dct"`` to replace the convolutions by a discrete cosine transform of
            8×8 patches; the second stage then keeps the resolution of the first.
        stem_channels: channels of the stem's first three convolutions; the fourth has
            ``widths[0] // 2``.
        stem_stride: 4 as in the paper; 2 or 1 for small images; or the strides of the stem's four
            convolutions, such as (1, 2, 1, 1).

    Raises:
        UserError: a field has an invalid value.
    """

    activation: str = "gelu"
    drop_rate: Rate = 0.2
    stochastic_depth_rate: Rate = 0.25
    group_widths: ChannelTuple = (128, 128, 128, 128)
    bottleneck_ratios: RatioTuple = (0.5, 0.5, 0.5, 0.5)
    bottleneck_of: EndTuple = ("output",) * 4
    second_conv: bool = True
    pointwise_groups: Channels = 1
    head_multiplier: Ratio = 2.0
    stem: Literal["conv", "dct"] = "conv"
    stem_channels: ChannelTuple = (16, 32, 64)
    stem_stride: Literal[1, 2, 4] | StrideTuple = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages("group_widths", "bottleneck_ratios")
        if len(self.bottleneck_of) != 4:
            raise UserError(
                f"bottleneck_of must be four of 'output' and 'input'; got "
                f"{reprlib.repr(self.bottleneck_of)}"
            )
        if len(self.stem_channels) != 3:
            raise UserError(
                f"stem_channels must be three numbers; got {reprlib.repr(self.stem_channels)}"
            )

    @property
    def stem_strides(self) -> tuple[int, int, int, int]:
        """The stride of each convolution of the stem."""
        stride = self.stem_stride
        return STEM_STRIDES[stride] if isinstance(stride, int) else stride

    def block_width(self, stage: int, in_channels: int) -> int:
        """Channels of a block's 3×3 convolutions, a multiple of the group width."""
        base = self.widths[stage] if self.bottleneck_of[stage] == "output" else in_channels
        width = base * self.bottleneck_ratios[stage]
        return round_channels(width, self.group_widths[stage], down=True)


class Stem(nn.Module):
    """Four 3×3 convolutions with activations between them but none after the last."""

    def __init__(self, config: NFNetConfig, channels: int, layers: Layers) -> None:
        super().__init__()
        c0, c1, c2 = config.stem_channels
        s0, s1, s2, s3 = config.stem_strides
        self.conv0 = layers.conv(config.in_channels, c0, 3, s0)
        self.act0 = layers.act(c0)
        self.conv1 = layers.conv(c0, c1, 3, s1)
        self.act1 = layers.act(c1)
        self.conv2 = layers.conv(c1, c2, 3, s2)
        self.act2 = layers.act(c2)
        self.conv3 = layers.conv(c2, channels, 3, s3)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Map images to the input of the first stage."""
        x = self.conv0(x)
        x = self.conv1(self.act0(x))
        x = self.conv2(self.act1(x))
        return self.conv3(self.act2(x))


class NFNet(ImageClassifier):
    """A Normalizer-Free network from section 5 of the paper.

    Args:
        config: configuration of the network.
        device: device of the parameters; ``"meta"`` allocates no memory.
        dtype: data type of the parameters.

    Shape:
        (n, in_channels, h, w) → (n, num_classes), for any h and w.

    Example:
        >>> import normfree, torch
        >>> model = normfree.create_model("nfnet_f0", num_classes=10, device="meta")
        >>> maps = model.feature_maps(torch.empty(1, 3, 64, 64, device="meta"))
        >>> [tuple(feature_map.shape[1:]) for feature_map in maps]
        [(256, 16, 16), (512, 8, 8), (1536, 4, 4), (1536, 2, 2)]

    Source: appendix C of the paper and the authors' code.

    Differs from: the authors' class, whose default rate of stochastic depth is 0.1. Their
    experiments and the configurations here use 0.25.
    """

    config: NFNetConfig

    def build_stem(self, layers: Layers) -> tuple[nn.Module, int]:
        """The convolutional stem or the discrete cosine transform."""
        config, channels = self.config, max(self.config.widths[0] // 2, 1)
        if config.stem == "dct":
            return DCTStem(config.in_channels, channels, layers), channels
        return Stem(config, channels, layers), channels

    def block_spec(self, place: Place, in_channels: int) -> BottleneckSpec:
        """The transition block of figure 5 at the start of a stage, else the block of figure 6."""
        config, stage = self.config, place.stage
        first_strided = 1 if config.stem == "conv" else 2
        width = config.block_width(stage, in_channels)
        return BottleneckSpec(
            in_channels=in_channels,
            out_channels=config.widths[stage],
            stride=2 if place.first and stage >= first_strided else 1,
            width=width,
            groups=width // config.group_widths[stage],
            second_conv=config.second_conv,
            pointwise_groups=config.pointwise_groups,
            se=config.squeeze_excite,
        )

    def build_head(self, channels: int, layers: Layers) -> tuple[nn.Module, int]:
        """A 1×1 convolution that increases the channels, and its activation."""
        features = max(int(self.config.head_multiplier * channels), 1)
        return expansion_head(channels, features, layers), features
