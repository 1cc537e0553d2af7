"""NFNets: F0 to F7, the wider F+ variants, and a small family for small images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError, unknown_name
from normfree.models.classifier import ImageClassifier, beta_sequence, stochastic_depth_sequence
from normfree.nn import ACTIVATIONS, NFBlock, ScaledActivation, WSConv2d

#: Stride of each convolution of the stem, by the stride of the whole.
STEM_STRIDES = {1: (1, 1, 1, 1), 2: (2, 1, 1, 1), 4: (2, 1, 1, 2)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NFNetConfig:
    """All that defines an NFNet.

    Args:
        name: the variant it is, or started from.
        widths: output channels of each stage.
        depths: blocks of each stage.
        group_widths: channels of a group in the 3×3 convolutions of each stage.
        bottleneck_ratios: width of the 3×3 convolutions over the output channels, by stage.
        alpha: scale of every residual branch.
        se_ratio: hidden units of squeeze-and-excite per channel.
        activation: a name of :data:`normfree.nn.ACTIVATIONS`.
        drop_rate: dropout before the classifier.
        stochastic_depth_rate: the rate that the last block nearly reaches.
        head_multiplier: channels of the last convolution over those of the last stage.
        stem_channels: of the stem's first three convolutions; the fourth has ``widths[0] // 2``.
        stem_stride: 4 as in the paper; 2 or 1 for small images.
        in_channels: channels of the images.
        num_classes: classes; 0 for pooled features instead of logits.
        train_size: side of the training images, pixels.
        test_size: side of the test images, pixels.
        randaugment_magnitude: strength of RandAugment in the paper's recipe.

    Raises:
        UserError: values that no network can have.
    """

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    group_widths: tuple[int, ...] = (128, 128, 128, 128)
    bottleneck_ratios: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5)
    alpha: float = 0.2
    se_ratio: float = 0.5
    activation: str = "gelu"
    drop_rate: float = 0.2
    stochastic_depth_rate: float = 0.25
    head_multiplier: int = 2
    stem_channels: tuple[int, ...] = (16, 32, 64)
    stem_stride: int = 4
    in_channels: int = 3
    num_classes: int = 1000
    train_size: int
    test_size: int
    randaugment_magnitude: int

    def __post_init__(self) -> None:
        per_stage = ("widths", "depths", "group_widths", "bottleneck_ratios")
        for field in (*per_stage, "stem_channels"):  # JSON and YAML bring lists
            object.__setattr__(self, field, tuple(getattr(self, field)))
        for field in per_stage:
            if len(getattr(self, field)) != 4 or min(getattr(self, field)) <= 0:
                raise UserError(
                    f"{field} must be four positive numbers, one a stage; "
                    f"got {getattr(self, field)}"
                )
        if len(self.stem_channels) != 3:
            raise UserError(f"stem_channels must be three numbers; got {self.stem_channels}")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)
        if self.activation == "glu":
            raise UserError("activation 'glu' halves the channels: no NFNet can be built with it")
        if self.stem_stride not in STEM_STRIDES:
            raise UserError(f"stem_stride must be 1, 2 or 4; got {self.stem_stride}")
        for field in ("drop_rate", "stochastic_depth_rate"):
            if not 0 <= getattr(self, field) < 1:
                raise UserError(f"{field} must be in [0, 1); got {getattr(self, field)}")


class Stem(nn.Module):
    """Four 3×3 convolutions with the activation between them, but not after the last."""

    def __init__(self, config: NFNetConfig, **on: Any) -> None:
        super().__init__()
        channels = (config.in_channels, *config.stem_channels, config.widths[0] // 2)
        strides = STEM_STRIDES[config.stem_stride]
        self.activation = ScaledActivation(config.activation)
        self.conv0 = WSConv2d(channels[0], channels[1], 3, strides[0], **on)
        self.conv1 = WSConv2d(channels[1], channels[2], 3, strides[1], **on)
        self.conv2 = WSConv2d(channels[2], channels[3], 3, strides[2], **on)
        self.conv3 = WSConv2d(channels[3], channels[4], 3, strides[3], **on)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h2 w2"]:
        """From images to the first stage's input."""
        act = self.activation
        x = self.conv0(x)
        x = self.conv1(act(x))
        x = self.conv2(act(x))
        return self.conv3(act(x))


class NFNet(ImageClassifier):
    """A Normalizer-Free network of the paper's section 5.

    Args:
        config: what to build.
        device: where the parameters live; ``"meta"`` builds shapes only.
        dtype: of the parameters.

    Shape:
        (n, in_channels, h, w) → (n, num_classes), any h and w.

    Example:
        >>> import normfree
        >>> model = normfree.create_model("nfnet_f0", num_classes=10, device="meta")
        >>> maps = model.feature_maps(torch.empty(1, 3, 64, 64, device="meta"))
        >>> [tuple(feature_map.shape[1:]) for feature_map in maps]
        [(256, 16, 16), (512, 8, 8), (1536, 4, 4), (1536, 2, 2)]

    Source: appendix C of the paper and the authors' code.

    Differs from: the authors' class, whose default for stochastic depth is 0.1; their experiments,
    and the configurations here, use 0.25.
    """

    config: NFNetConfig

    def __init__(
        self,
        config: NFNetConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        on: dict[str, Any] = {"device": device, "dtype": dtype}
        self.config = config
        self.stem = Stem(config, **on)

        blocks = sum(config.depths)
        betas = beta_sequence(config.depths, config.alpha)
        rates = stochastic_depth_sequence(blocks, config.stochastic_depth_rate)
        self.stages = nn.ModuleList()
        channels, number = config.widths[0] // 2, count()
        for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            stage_blocks = nn.ModuleList()
            for place in range(depth):
                index = next(number)
                stage_blocks.append(
                    NFBlock(
                        channels,
                        width,
                        width=bottleneck_width(config, stage),
                        group_width=config.group_widths[stage],
                        stride=2 if stage > 0 and place == 0 else 1,
                        alpha=config.alpha,
                        beta=betas[index],
                        se_ratio=config.se_ratio,
                        activation=config.activation,
                        stochastic_depth_rate=rates[index],
                        stream=index,
                        **on,
                    )
                )
                channels = width
            self.stages.append(stage_blocks)

        features = config.head_multiplier * config.widths[-1]
        self.head = nn.Sequential()
        self.head.add_module("conv", WSConv2d(channels, features, 1, **on))
        self.head.add_module("activation", ScaledActivation(config.activation))
        self.finish(features, blocks, **on)


def bottleneck_width(config: NFNetConfig, stage: int) -> int:
    """Channels of a stage's 3×3 convolutions: a whole number of groups.

    >>> f0_plus = next(c for c in CONFIGS if c.name == "nfnet_f0_plus")
    >>> [bottleneck_width(f0_plus, stage) for stage in range(4)]  # 384 · 0.5 is no multiple of 128
    [128, 384, 1024, 1024]
    """
    group_width = config.group_widths[stage]
    groups = int(config.widths[stage] * config.bottleneck_ratios[stage]) // group_width
    return max(groups, 1) * group_width


def _paper_variants() -> Sequence[NFNetConfig]:
    #         multiplier  train  test  drop  RandAugment
    table = {
        "f0": (1, 192, 256, 0.2, 5),
        "f1": (2, 224, 320, 0.3, 10),
        "f2": (3, 256, 352, 0.4, 10),
        "f3": (4, 320, 416, 0.4, 15),
        "f4": (5, 384, 512, 0.5, 15),
        "f5": (6, 416, 544, 0.5, 15),
        "f6": (7, 448, 576, 0.5, 15),
        "f7": (8, 480, 608, 0.5, 15),
    }
    widths = {"": (256, 512, 1536, 1536), "_plus": (384, 768, 2048, 2048)}
    return [
        NFNetConfig(
            name=f"nfnet_{variant}{suffix}",
            widths=widths[suffix],
            depths=tuple(multiplier * depth for depth in (1, 2, 6, 3)),
            drop_rate=drop_rate,
            train_size=train_size,
            test_size=test_size,
            randaugment_magnitude=magnitude,
        )
        for suffix in widths
        for variant, (multiplier, train_size, test_size, drop_rate, magnitude) in table.items()
    ]


def _small_variants() -> Sequence[NFNetConfig]:
    #         widths, depths, group width, stem channels, stem stride, size
    table: dict[str, tuple[Any, ...]] = {
        "pico": ((32, 64, 96, 96), (1, 1, 2, 1), 16, (8, 16, 16), 1, 8),
        "nano": ((48, 96, 192, 192), (1, 1, 3, 1), 24, (8, 16, 24), 2, 28),
        "micro": ((64, 128, 256, 256), (1, 2, 4, 2), 32, (8, 16, 32), 2, 64),
    }
    return [
        NFNetConfig(
            name=f"nfnet_{variant}",
            widths=widths,
            depths=depths,
            group_widths=(group_width,) * 4,
            drop_rate=0.1,
            stochastic_depth_rate=0.1,
            stem_channels=stem_channels,
            stem_stride=stem_stride,
            train_size=size,
            test_size=size,
            randaugment_magnitude=5,
        )
        for variant, (
            widths,
            depths,
            group_width,
            stem_channels,
            stem_stride,
            size,
        ) in table.items()
    ]


#: Every variant that ``create_model`` knows by name.
CONFIGS: tuple[NFNetConfig, ...] = (*_paper_variants(), *_small_variants())
