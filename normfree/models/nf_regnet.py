"""Normalizer-Free RegNets (Brock et al., 2021a), small networks comparable to EfficientNets."""

from __future__ import annotations

import dataclasses

from torch import nn

from normfree.models.classifier import ImageClassifier, expansion_head
from normfree.models.config import ChannelTuple, ClassifierConfig, Ratio, Std
from normfree.models.places import Place
from normfree.nn import BottleneckSpec, Layers, SEPlace, SESpec
from normfree.nn.channels import Channels, round_channels
from normfree.nn.residual import Rate
from normfree.schema import record


@record
class NFRegNetConfig(ClassifierConfig):
    """The configuration of an NF-RegNet, in addition to the fields common to all families.

    Squeeze-and-excite acts on the input of a block's last convolution. The classifier's weight is
    initialized to zero.

    Args:
        width_multiplier: factor applied to ``widths``.
        expansion: ratio of 3×3 convolution width to the *input* channels of a block; the first
            block of the network does not expand.
        group_widths: channels per group in the 3×3 convolutions of each stage.
        head_channels: channels of the last convolution for every 440 channels of the last stage.
        channel_divisor: multiplied widths are rounded to a multiple of it; 1 rounds down as the
            authors do, and timm uses 8.

    Raises:
        UserError: a field has an invalid value.
    """

    activation: str = "silu"
    stochastic_depth_rate: Rate = 0.1
    se_place: SEPlace = "bottleneck"
    classifier_std: Std = 0.0
    width_multiplier: Ratio = 0.75
    expansion: Ratio = 2.25
    group_widths: ChannelTuple = (8, 8, 8, 8)
    head_channels: Channels = 1280
    channel_divisor: Channels = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages("group_widths")

    @property
    def squeeze_excite(self) -> SESpec:
        """The squeeze-and-excite configuration, whose hidden units use the channel divisor too."""
        return dataclasses.replace(super().squeeze_excite, divisor=self.channel_divisor)

    def stage_channels(self, stage: int) -> int:
        """Output channels of a stage."""
        return round_channels(self.widths[stage] * self.width_multiplier, self.channel_divisor)

    def block_width(self, stage: int, in_channels: int, *, expand: bool) -> int:
        """Channels of a block's 3×3 convolution, a multiple of the group width."""
        width = in_channels * (self.expansion if expand else 1)
        width = round_channels(width, self.channel_divisor)
        return round_channels(width, self.group_widths[stage], down=True)

    def head_width(self) -> int:
        """Channels of the last convolution."""
        last = int(self.widths[-1] * self.width_multiplier)
        return round_channels(self.head_channels * last // 440, self.channel_divisor)


class NFRegNet(ImageClassifier):
    """A RegNet-like network without normalization.

    Args:
        config: configuration of the network.
        device: device of the parameters; ``"meta"`` allocates no memory.
        dtype: data type of the parameters.

    Shape:
        (n, in_channels, h, w) → (n, num_classes), for any h and w.

    Example:
        >>> import normfree, torch
        >>> model = normfree.create_model("nf_regnet_b0", device="meta")
        >>> maps = model.feature_maps(torch.empty(1, 3, 64, 64, device="meta"))
        >>> [tuple(feature_map.shape[1:]) for feature_map in maps]
        [(36, 16, 16), (78, 8, 8), (156, 4, 4), (330, 2, 2)]

    Source: the authors' code, whose classifier also starts at zero.
    """

    config: NFRegNetConfig

    def build_stem(self, layers: Layers) -> tuple[nn.Module, int]:
        """A 3×3 convolution with stride 2."""
        channels = self.config.stage_channels(0)
        stem = nn.Sequential()
        stem.add_module("conv", layers.conv(self.config.in_channels, channels, 3, 2))
        return stem, channels

    def block_spec(self, place: Place, in_channels: int) -> BottleneckSpec:
        """An expanded bottleneck; the first block of every stage has stride 2."""
        config, stage = self.config, place.stage
        expand = place.residual.stream > 0
        width = config.block_width(stage, in_channels, expand=expand)
        return BottleneckSpec(
            in_channels=in_channels,
            out_channels=config.stage_channels(stage),
            stride=2 if place.first else 1,
            width=width,
            groups=width // config.group_widths[stage],
            second_conv=False,
            se=config.squeeze_excite,
        )

    def build_head(self, channels: int, layers: Layers) -> tuple[nn.Module, int]:
        """A 1×1 convolution to the width of EfficientNet's head, and its activation."""
        features = self.config.head_width()
        return expansion_head(channels, features, layers), features


#        widths                depths         train test drop
VARIANTS = {
    "b0": ((48, 104, 208, 440), (1, 3, 6, 6), 192, 224, 0.2),
    "b1": ((48, 104, 208, 440), (2, 4, 7, 7), 224, 256, 0.2),
    "b2": ((56, 112, 232, 488), (2, 4, 8, 8), 240, 272, 0.3),
    "b3": ((56, 128, 248, 528), (2, 5, 9, 9), 288, 320, 0.3),
    "b4": ((64, 144, 288, 616), (2, 6, 11, 11), 320, 384, 0.4),
    "b5": ((80, 168, 336, 704), (3, 7, 14, 14), 384, 456, 0.4),
    "b6": ((88, 184, 376, 792), (3, 8, 16, 16), 448, 528, 0.5),
    "b7": ((96, 208, 416, 880), (4, 10, 19, 19), 512, 600, 0.5),
    "b8": ((104, 232, 456, 968), (4, 11, 22, 22), 600, 672, 0.5),
}

#: Every NF-RegNet that ``create_model`` can build by name.
CONFIGS: tuple[NFRegNetConfig, ...] = tuple(
    NFRegNetConfig(
        name=f"nf_regnet_{variant}",
        widths=widths,
        depths=depths,
        train_size=train_size,
        test_size=test_size,
        drop_rate=drop_rate,
    )
    for variant, (widths, depths, train_size, test_size, drop_rate) in VARIANTS.items()
)
