"""Normalizer-Free RegNets (Brock et al., 2021a), the small networks of EfficientNet's size."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from normfree.models.classifier import ClassifierConfig, ImageClassifier
from normfree.models.places import grouped_width, places, round_channels
from normfree.nn import NFBlock
from normfree.nn.normalization import new_activation, new_conv


@dataclasses.dataclass(frozen=True, kw_only=True)
class NFRegNetConfig(ClassifierConfig):
    """All that defines an NF-RegNet, in addition to what every family has.

    Args:
        width_multiplier: what ``widths`` are multiplied by.
        expansion: width of the 3×3 convolution over the *input* channels of a block; the first
            block of the network does not expand.
        group_widths: channels of a group in the 3×3 convolutions of each stage.
        alpha: scale of every residual branch.
        se_ratio: hidden units of squeeze-and-excite per channel of the 3×3 convolution.
        head_channels: channels of the last convolution for every 440 of the last stage.
        channel_divisor: the widths that multipliers give are rounded to a multiple of it; 1 rounds
            down as the authors do, timm has 8.

    Raises:
        UserError: values that no network can have.
    """

    activation: str = "silu"
    stochastic_depth_rate: float = 0.1
    width_multiplier: float = 0.75
    expansion: float = 2.25
    group_widths: tuple[int, ...] = (8, 8, 8, 8)
    alpha: float = 0.2
    se_ratio: float = 0.5
    head_channels: int = 1280
    channel_divisor: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages("group_widths")

    def stage_channels(self, stage: int) -> int:
        """Output channels of a stage."""
        return round_channels(self.widths[stage] * self.width_multiplier, self.channel_divisor)

    def block_width(self, stage: int, in_channels: int, *, expand: bool) -> int:
        """Channels of a block's 3×3 convolution: a whole number of groups."""
        width = in_channels * (self.expansion if expand else 1)
        return grouped_width(round_channels(width, self.channel_divisor), self.group_widths[stage])

    def head_width(self) -> int:
        """Channels of the last convolution."""
        last = int(self.widths[-1] * self.width_multiplier)
        return round_channels(self.head_channels * last // 440, self.channel_divisor)


class NFRegNet(ImageClassifier):
    """A RegNet-like network without normalization.

    Args:
        config: what to build.
        device: where the parameters live; ``"meta"`` builds shapes only.
        dtype: of the parameters.

    Shape:
        (n, in_channels, h, w) → (n, num_classes), any h and w.

    Example:
        >>> import normfree
        >>> model = normfree.create_model("nf_regnet_b0", device="meta")
        >>> maps = model.feature_maps(torch.empty(1, 3, 64, 64, device="meta"))
        >>> [tuple(feature_map.shape[1:]) for feature_map in maps]
        [(36, 16, 16), (78, 8, 8), (156, 4, 4), (330, 2, 2)]

    Source: the authors' code; the classifier starts at zero.
    """

    config: NFRegNetConfig
    classifier_std = 0.0

    def __init__(
        self,
        config: NFRegNetConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        on: dict[str, Any] = {"device": device, "dtype": dtype}
        self.config = config
        channels = config.stage_channels(0)
        self.stem = nn.Sequential()
        self.stem.add_module(
            "conv", new_conv(config.normalization, config.in_channels, channels, 3, 2, **on)
        )
        self.stages = nn.ModuleList(nn.ModuleList() for _ in config.depths)
        for place in places(config.depths, config.alpha, config.stochastic_depth_rate):
            block = NFBlock(
                channels,
                config.stage_channels(place.stage),
                width=config.block_width(place.stage, channels, expand=place.index > 0),
                group_width=config.group_widths[place.stage],
                stride=2 if place.first else 1,
                alpha=config.alpha,
                beta=place.beta,
                second_conv=False,
                se_place="bottleneck",
                se_ratio=config.se_ratio,
                se_divisor=config.channel_divisor,
                normalization=config.normalization,
                activation=config.activation,
                stochastic_depth_rate=place.stochastic_depth_rate,
                stream=place.index,
                **on,
            )
            self.stages[place.stage].append(block)  # type: ignore[operator]
            channels = config.stage_channels(place.stage)
        features = config.head_width()
        self.head = nn.Sequential()
        self.head.add_module("conv", new_conv(config.normalization, channels, features, 1, **on))
        self.head.add_module(
            "act", new_activation(config.normalization, config.activation, features, **on)
        )
        self.finish(features, **on)


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

#: Every variant that ``create_model`` knows by name.
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
