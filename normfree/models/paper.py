"""What the paper says of its networks: accuracies, and the ablations of F0 to F3."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

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
