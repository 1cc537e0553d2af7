"""Normalizer-Free ResNets (Brock et al., 2021a), on which section 4 of the paper studies AGC."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.models.classifier import ClassifierConfig, ImageClassifier
from normfree.models.places import places
from normfree.nn import NFBlock, SameConv2d, SEPlace
from normfree.nn.functional import max_pool2d_same
from normfree.nn.normalization import new_activation, new_conv


@dataclasses.dataclass(frozen=True, kw_only=True)
class NFResNetConfig(ClassifierConfig):
    """All that defines an NF-ResNet, in addition to what every family has.

    Args:
        bottleneck_ratios: width of the 3×3 convolution over the output channels, by stage.
        alpha: scale of every residual branch.
        pool_shortcut: whether the skip path strides by mean pooling, as in timm's networks, instead
            of in its 1×1 convolution.
        se_place: where squeeze-and-excite sits; ``"output"`` makes an SE-ResNet.
        se_ratio: its hidden units per channel.

    Raises:
        UserError: values that no network can have.
    """

    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    activation: str = "relu"
    drop_rate: float = 0.0
    stochastic_depth_rate: float = 0.1
    bottleneck_ratios: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    alpha: float = 0.2
    pool_shortcut: bool = False
    se_place: SEPlace = "none"
    se_ratio: float = 0.25
    train_size: int = 224
    test_size: int = 224

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages("bottleneck_ratios")


class ResNetStem(nn.Module):
    """A 7×7 convolution with stride 2, then the maximum over 3×3 with stride 2."""

    def __init__(self, conv: SameConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h4 w4"]:
        """From images to the first stage's input."""
        return max_pool2d_same(self.conv(x))


class NFResNet(ImageClassifier):
    """A pre-activation ResNet without normalization.

    Args:
        config: what to build.
        device: where the parameters live; ``"meta"`` builds shapes only.
        dtype: of the parameters.

    Shape:
        (n, in_channels, h, w) → (n, num_classes), any h and w.

    Example:
        >>> import normfree
        >>> model = normfree.create_model("nf_resnet50", num_classes=10, device="meta")
        >>> model(torch.empty(2, 3, 64, 64, device="meta")).shape
        torch.Size([2, 10])

    Source: section 4.1 of the paper and the authors' code.

    Differs from: NFNets, in that the skip path strides in its 1×1 convolution, without pooling, and
    that the last activation has no convolution before it.
    """

    config: NFResNetConfig

    def __init__(
        self,
        config: NFResNetConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        on: dict[str, Any] = {"device": device, "dtype": dtype}
        self.config = config
        channels = int(config.widths[0] * config.bottleneck_ratios[0])
        self.stem = ResNetStem(
            new_conv(config.normalization, config.in_channels, channels, 7, 2, **on)
        )
        self.stages = nn.ModuleList(nn.ModuleList() for _ in config.depths)
        for place in places(config.depths, config.alpha, config.stochastic_depth_rate):
            width = config.widths[place.stage]
            block = NFBlock(
                channels,
                width,
                width=int(width * config.bottleneck_ratios[place.stage]),
                stride=2 if place.first and place.stage > 0 else 1,
                alpha=config.alpha,
                beta=place.beta,
                second_conv=False,
                pool_shortcut=config.pool_shortcut,
                se_place=config.se_place,
                se_ratio=config.se_ratio,
                normalization=config.normalization,
                activation=config.activation,
                stochastic_depth_rate=place.stochastic_depth_rate,
                stream=place.index,
                **on,
            )
            self.stages[place.stage].append(block)  # type: ignore[operator]
            channels = width
        self.head = new_activation(config.normalization, config.activation, channels, **on)
        self.finish(channels, **on)


#: Blocks a stage, by the number in a ResNet's name.
DEPTHS = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    288: (24, 24, 24, 24),
    600: (50, 50, 50, 50),
}

#: Every variant that ``create_model`` knows by name.
CONFIGS: tuple[NFResNetConfig, ...] = (
    *(NFResNetConfig(name=f"nf_resnet{n}", depths=depths) for n, depths in DEPTHS.items()),
    *(
        NFResNetConfig(name=f"bn_resnet{n}", depths=DEPTHS[n], normalization="batch")
        for n in (50, 101, 152, 200)
    ),
)
