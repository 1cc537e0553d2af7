"""The named NFNets and the paper's ablations of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from normfree.models.nfnet import NFNetConfig
from normfree.nn import Normalization

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


#: Every NFNet that ``create_model`` can build by name. The batch-normalized twins are the row
#: "−NF, +BN" of table 6.
CONFIGS: tuple[NFNetConfig, ...] = (
    *_paper("nfnet", "", "none"),
    *_paper("nfnet", "_plus", "none"),
    *_small(),
    *_paper("bn_nfnet", "", "batch"),
)

#: ImageNet top-1 accuracy in percent, from tables 3 and 6 of the paper; not measured here.
PAPER_TOP1: Mapping[str, str] = MappingProxyType(
    {
        "nfnet_f0": "83.6",
        "nfnet_f1": "84.7",
        "nfnet_f2": "85.1",
        "nfnet_f3": "85.7",
        "nfnet_f4": "85.9",
        "nfnet_f5": "86.0",
        "nfnet_f6": "86.5 with SAM",
        "bn_nfnet_f0": "83.4",
        "bn_nfnet_f1": "84.4",
        "bn_nfnet_f2": "85.1",
        "bn_nfnet_f3": "85.5",
    }
)

#: Variants whose counts in the authors' code, which we follow, differ from those in the paper.
PAPER_NOTES: Mapping[str, str] = MappingProxyType(
    {
        "nfnet_f4_plus": "525.0M parameters and 333B multiply-adds, as in the authors' code; "
        "table 5 lists 527M and 367B",
        "bn_resnet50": "25.5M parameters, as in the authors' code; table 3 lists 26.0M",
    }
)

_DEFAULT_WIDTH = (256, 512, 1024, 2048)

#: Fields that turn F0…F3 into the networks of tables 2 and 6 and of appendix E:
#: ``create_model("nfnet_f0", **ABLATIONS["baseline"])``.
ABLATIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "baseline": {"widths": _DEFAULT_WIDTH, "second_conv": False},
        "modified_width": {"second_conv": False},
        "second_conv": {},
        "default_width": {"widths": _DEFAULT_WIDTH},
        "mixed_bottlenecks": {
            "group_widths": (8, 8, 16, 16),
            "bottleneck_ratios": (0.25, 0.25, 0.5, 0.5),
            "bottleneck_of": ("input", "input", "output", "output"),
        },
        "dct_stem": {"stem": "dct"},
        "grouped_pointwise": {"pointwise_groups": 2},
        "grouped_pointwise_straddled": {"pointwise_groups": 2, "se_place": "straddled"},
    }
)
