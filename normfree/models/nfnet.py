"""NFNets: the networks of the paper's section 5."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.models.classifier import ClassifierConfig, ImageClassifier
from normfree.models.dct_stem import DCTStem
from normfree.models.places import Place, grouped_width, places
from normfree.nn import NFBlock, SEPlace
from normfree.nn.normalization import new_activation, new_conv

#: Stride of each convolution of the stem, by the stride of the whole.
STEM_STRIDES = {1: (1, 1, 1, 1), 2: (2, 1, 1, 1), 4: (2, 1, 1, 2)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NFNetConfig(ClassifierConfig):
    """All that defines an NFNet, in addition to what every family has.

    Args:
        group_widths: channels of a group in the 3×3 convolutions of each stage.
        bottleneck_ratios: width of the 3×3 convolutions over the channels of a block, by stage.
        bottleneck_of: whether those are a transition block's output or input channels, by stage.
        alpha: scale of every residual branch.
        second_conv: whether blocks have the second 3×3 convolution.
        pointwise_groups: groups of the blocks' 1×1 convolutions.
        se_place: where squeeze-and-excite sits (see :class:`normfree.nn.NFBlock`).
        se_ratio: its hidden units per channel.
        head_multiplier: channels of the last convolution over those of the last stage.
        stem: ``"conv"``, or ``"dct"`` for the transform of 8×8 patches in its place; the second
            stage then keeps the first one's resolution.
        stem_channels: of the stem's first three convolutions; the fourth has ``widths[0] // 2``.
        stem_stride: 4 as in the paper; 2 or 1 for small images.

    Raises:
        UserError: values that no network can have.
    """

    activation: str = "gelu"
    drop_rate: float = 0.2
    stochastic_depth_rate: float = 0.25
    group_widths: tuple[int, ...] = (128, 128, 128, 128)
    bottleneck_ratios: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5)
    bottleneck_of: tuple[Literal["output", "input"], ...] = ("output",) * 4
    alpha: float = 0.2
    second_conv: bool = True
    pointwise_groups: int = 1
    se_place: SEPlace = "output"
    se_ratio: float = 0.5
    head_multiplier: int = 2
    stem: Literal["conv", "dct"] = "conv"
    stem_channels: tuple[int, ...] = (16, 32, 64)
    stem_stride: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages("group_widths", "bottleneck_ratios")
        if len(self.bottleneck_of) != 4 or not {*self.bottleneck_of} <= {"output", "input"}:
            raise UserError(
                f"bottleneck_of must be four of 'output' and 'input'; got {self.bottleneck_of}"
            )
        if self.stem not in ("conv", "dct"):
            raise UserError(f"stem must be 'conv' or 'dct'; got {self.stem!r}")
        if len(self.stem_channels) != 3:
            raise UserError(f"stem_channels must be three numbers; got {self.stem_channels}")
        if self.stem_stride not in STEM_STRIDES:
            raise UserError(f"stem_stride must be 1, 2 or 4; got {self.stem_stride}")

    def block_width(self, stage: int, in_channels: int) -> int:
        """Channels of a block's 3×3 convolutions: a whole number of groups."""
        base = self.widths[stage] if self.bottleneck_of[stage] == "output" else in_channels
        return grouped_width(base * self.bottleneck_ratios[stage], self.group_widths[stage])


class Stem(nn.Module):
    """Four 3×3 convolutions with the activation between them, but not after the last."""

    def __init__(self, config: NFNetConfig, **on: Any) -> None:
        super().__init__()
        conv = partial(new_conv, config.normalization, kernel_size=3, **on)
        act: Callable[[int], nn.Module] = partial(
            new_activation, config.normalization, config.activation, **on
        )
        c0, c1, c2 = config.stem_channels
        s0, s1, s2, s3 = STEM_STRIDES[config.stem_stride]
        self.conv0 = conv(config.in_channels, c0, stride=s0)
        self.act0 = act(c0)
        self.conv1 = conv(c0, c1, stride=s1)
        self.act1 = act(c1)
        self.conv2 = conv(c1, c2, stride=s2)
        self.act2 = act(c2)
        self.conv3 = conv(c2, config.widths[0] // 2, stride=s3)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h2 w2"]:
        """From images to the first stage's input."""
        x = self.conv0(x)
        x = self.conv1(self.act0(x))
        x = self.conv2(self.act1(x))
        return self.conv3(self.act2(x))


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
        channels = config.widths[0] // 2
        if config.stem == "conv":
            self.stem = Stem(config, **on)
        else:
            self.stem = DCTStem(config.in_channels, channels, config.normalization, **on)
        self.stages = nn.ModuleList(nn.ModuleList() for _ in config.depths)
        for place in places(config.depths, config.alpha, config.stochastic_depth_rate):
            self.stages[place.stage].append(_block(config, place, channels, on))  # type: ignore[operator]
            channels = config.widths[place.stage]
        features = config.head_multiplier * channels
        self.head = nn.Sequential()
        self.head.add_module("conv", new_conv(config.normalization, channels, features, 1, **on))
        self.head.add_module(
            "act", new_activation(config.normalization, config.activation, features, **on)
        )
        self.finish(features, **on)


def _block(config: NFNetConfig, place: Place, in_channels: int, on: dict[str, Any]) -> NFBlock:
    first_strided = 1 if config.stem == "conv" else 2
    return NFBlock(
        in_channels,
        config.widths[place.stage],
        width=config.block_width(place.stage, in_channels),
        group_width=config.group_widths[place.stage],
        stride=2 if place.first and place.stage >= first_strided else 1,
        alpha=config.alpha,
        beta=place.beta,
        second_conv=config.second_conv,
        pointwise_groups=config.pointwise_groups,
        se_place=config.se_place,
        se_ratio=config.se_ratio,
        normalization=config.normalization,
        activation=config.activation,
        stochastic_depth_rate=place.stochastic_depth_rate,
        stream=place.index,
        **on,
    )
