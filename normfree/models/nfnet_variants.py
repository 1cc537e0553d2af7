"""The named NFNets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from normfree.models.nfnet import NFNetConfig
from normfree.nn import Normalization
from normfree.nn.squeeze_excite import SEKind

#: Blocks per stage in F0; variant FN has N + 1 times as many.
DEPTHS = (1, 2, 6, 3)
WIDTHS = {"": (256, 512, 1536, 1536), "_plus": (384, 768, 2048, 2048)}

#        train  test  drop  RandAugment: table 1 of the paper; F7 is from the authors' code
PAPER = {
    "f0": (192, 256, 0.2, 5),
    "f1": (224, 320, 0.3, 10),
    "f2": (256, 352, 0.4, 10),
    "f3": (320, 416, 0.4, 15),
    "f4": (384, 512, 0.5, 15),
    "f5": (416, 544, 0.5, 15),
    "f6": (448, 576, 0.5, 15),
    "f7": (480, 608, 0.5, 15),
}

#: timm's light NFNets: attention, multiple of F0's depths, train and test size, and the channels of
#: the head per channel of the last stage.
LIGHT: dict[str, tuple[SEKind, int, int, int, float]] = {
    "nfnet_l0": ("se", 1, 224, 288, 1.5),
    "eca_nfnet_l0": ("eca", 1, 224, 288, 1.5),
    "eca_nfnet_l1": ("eca", 2, 256, 320, 2.0),
    "eca_nfnet_l2": ("eca", 3, 320, 384, 2.0),
}

#: Our own small variants, built from the same blocks, for small images and limited hardware.
SMALL: dict[str, dict[str, Any]] = {
    "pico": {
        "widths": (32, 64, 96, 96),
        "depths": (1, 1, 2, 1),
        "group_widths": (16, 16, 16, 16),
        "stem_channels": (8, 16, 16),
        "stem_stride": 1,
        "train_size": 8,
        "test_size": 8,
    },
    "nano": {
        "widths": (32, 64, 128, 128),
        "depths": (1, 1, 3, 1),
        "group_widths": (16, 32, 64, 64),
        "stem_channels": (16, 16, 32),
        "stem_stride": 2,
        "train_size": 28,
        "test_size": 28,
    },
    "micro": {
        "widths": (64, 128, 256, 256),
        "depths": (1, 2, 4, 2),
        "group_widths": (32, 64, 64, 64),
        "stem_channels": (16, 16, 32),
        "stem_stride": 4,
        "train_size": 64,
        "test_size": 64,
    },
}


def _paper(prefix: str, suffix: str, normalization: Normalization) -> Iterator[NFNetConfig]:
    for number, (variant, row) in enumerate(PAPER.items(), start=1):
        train_size, test_size, drop_rate, magnitude = row
        yield NFNetConfig(
            name=f"{prefix}_{variant}{suffix}",
            widths=WIDTHS[suffix],
            depths=tuple(number * depth for depth in DEPTHS),
            drop_rate=drop_rate,
            train_size=train_size,
            test_size=test_size,
            randaugment_magnitude=magnitude,
            normalization=normalization,
        )


def _small() -> Iterator[NFNetConfig]:
    for variant, fields in SMALL.items():
        yield NFNetConfig(
            name=f"nfnet_{variant}",
            drop_rate=0.1,
            stochastic_depth_rate=0.1,
            randaugment_magnitude=5,
            **fields,
        )


def _light() -> Iterator[NFNetConfig]:
    for name, (kind, number, train_size, test_size, head) in LIGHT.items():
        yield NFNetConfig(
            name=name,
            widths=WIDTHS[""],
            depths=tuple(number * depth for depth in DEPTHS),
            group_widths=(64,) * 4,
            bottleneck_ratios=(0.25,) * 4,
            activation="silu",
            padding="symmetric",
            se_kind=kind,
            se_ratio=0.25,
            head_multiplier=head,
            train_size=train_size,
            test_size=test_size,
        )


#: Every NFNet that ``create_model`` can build by name. The batch-normalized twins are the row
#: "−NF, +BN" of table 6.
CONFIGS: tuple[NFNetConfig, ...] = (
    *_paper("nfnet", "", "none"),
    *_paper("nfnet", "_plus", "none"),
    *_small(),
    *_light(),
    *_paper("bn_nfnet", "", "batch"),
)
