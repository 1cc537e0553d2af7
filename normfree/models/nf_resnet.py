"""Normalizer-Free ResNets (Brock et al., 2021a), used to study AGC in section 4.1 of the paper."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from normfree.models.classifier import ImageClassifier
from normfree.models.config import ChannelTuple, ClassifierConfig, Ratio, RatioTuple, Side
from normfree.models.places import Place
from normfree.nn import BottleneckSpec, Layers, SameConv2d, SEPlace
from normfree.nn.residual import Rate
from normfree.schema import record


@record
class NFResNetConfig(ClassifierConfig):
    """The configuration of an NF-ResNet, in addition to the fields common to all families.

    Squeeze-and-excite is off by default; ``se_place="output"`` gives an SE-ResNet.

    Args:
        bottleneck_ratios: ratio of 3×3 convolution width to output channels, per stage.
        pool_shortcut: whether the skip path strides by mean pooling, as in timm, rather than in its
            1×1 convolution.

    Raises:
        UserError: a field has an invalid value.
    """

    widths: ChannelTuple = (256, 512, 1024, 2048)
    activation: str = "relu"
    drop_rate: Rate = 0.0
    stochastic_depth_rate: Rate = 0.1
    bottleneck_ratios: RatioTuple = (0.25, 0.25, 0.25, 0.25)
    pool_shortcut: bool = False
    se_place: SEPlace = "none"
    se_ratio: Ratio = 0.25
    train_size: Side = 224
    test_size: Side = 224

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages("bottleneck_ratios")

    def block_width(self, stage: int) -> int:
        """Channels of a block's 3×3 convolution."""
        return max(int(self.widths[stage] * self.bottleneck_ratios[stage]), 1)


class ResNetStem(nn.Module):
    """A 7×7 convolution with stride 2, then 3×3 max pooling with stride 2."""

    def __init__(self, conv: SameConv2d, pool: nn.Module) -> None:
        super().__init__()
        self.conv, self.pool = conv, pool

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h4 w4"]:
        """Map images to the input of the first stage."""
        return self.pool(self.conv(x))


class NFResNet(ImageClassifier):
    """A pre-activation ResNet without normalization.

    Args:
        config: configuration of the network.
        device: device of the parameters; ``"meta"`` allocates no memory.
        dtype: data type of the parameters.

    Shape:
        (n, in_channels, h, w) → (n, num_classes), for any h and w.

    Example:
        >>> import normfree, torch
        >>> model = normfree.create_model("nf_resnet50", num_classes=10, device="meta")
        >>> model(torch.empty(2, 3, 64, 64, device="meta")).shape
        torch.Size([2, 10])

    Source: section 4.1 of the paper and the authors' code.

    Differs from: NFNets, whose skip path strides by mean pooling, and which have a convolution
    before the last activation. Here the skip path strides in its 1×1 convolution.
    """

    config: NFResNetConfig

    def build_stem(self, layers: Layers) -> tuple[nn.Module, int]:
        """A 7×7 convolution as wide as the first stage's 3×3 convolutions, and max pooling."""
        channels = self.config.block_width(0)
        conv = layers.conv(self.config.in_channels, channels, 7, 2)
        return ResNetStem(conv, layers.max_pool()), channels

    def block_spec(self, place: Place, in_channels: int) -> BottleneckSpec:
        """A bottleneck with one dense 3×3 convolution."""
        config = self.config
        return BottleneckSpec(
            in_channels=in_channels,
            out_channels=config.widths[place.stage],
            stride=2 if place.first and place.stage > 0 else 1,
            pool_shortcut=config.pool_shortcut,
            width=config.block_width(place.stage),
            second_conv=False,
            se=config.squeeze_excite,
        )

    def build_head(self, channels: int, layers: Layers) -> tuple[nn.Module, int]:
        """The last activation."""
        return layers.act(channels), channels


#: Blocks per stage, by the number in a ResNet's name.
DEPTHS = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    288: (24, 24, 24, 24),
    600: (50, 50, 50, 50),
}

#: Every NF-ResNet that ``create_model`` can build by name.
CONFIGS: tuple[NFResNetConfig, ...] = (
    *(NFResNetConfig(name=f"nf_resnet{n}", depths=depths) for n, depths in DEPTHS.items()),
    *(
        NFResNetConfig(name=f"bn_resnet{n}", depths=DEPTHS[n], normalization="batch")
        for n in (50, 101, 152, 200)
    ),
)
