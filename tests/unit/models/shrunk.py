"""Small networks of every family for tests."""

from __future__ import annotations

import zlib
from typing import Any

import torch

from normfree.models import ImageClassifier, build_model
from normfree.nn import NFBlock

NARROW = {"widths": (16, 32, 32, 32), "depths": (1, 1, 2, 1)}
NFNET = {**NARROW, "group_widths": (8,) * 4, "stem_channels": (4, 8, 8)}
REGNET = {"widths": (24, 32, 48, 48), "depths": (1, 1, 2, 1), "head_channels": 440}

#: One model name per family → fields that shrink it.
FAMILIES: dict[str, dict[str, Any]] = {
    "nfnet_f0": NFNET,
    "nf_resnet50": NARROW,
    "nf_regnet_b0": REGNET,
    "bn_nfnet_f0": NFNET,
    "bn_resnet50": NARROW,
}
NORMFREE = [name for name in FAMILIES if not name.startswith("bn_")]


def shrunk(name: str, **fields: Any) -> ImageClassifier:
    """A small network with nonzero SkipInit gains and a nonzero classifier."""
    torch.manual_seed(zlib.crc32(name.encode()))
    model = build_model(name, **{**FAMILIES[name], "num_classes": 5, **fields})
    for module in model.modules():
        if isinstance(module, NFBlock) and module.skip_gain is not None:
            torch.nn.init.constant_(module.skip_gain, 0.7)
    if model.config.num_classes:
        torch.nn.init.normal_(model.classifier.weight, std=0.1)
    return model


def images(count: int = 3, size: int = 64, channels: int = 3) -> torch.Tensor:
    """Images of fixed random noise."""
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))
