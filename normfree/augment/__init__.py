"""Batched augmentation on the device: shift, mix, RandAugment, normalize."""

from __future__ import annotations

from normfree.augment.levels import to_bytes
from normfree.augment.mix import Mix, draw_mix, mix, mix_bytes
from normfree.augment.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize
from normfree.augment.randaugment import RandAugment
from normfree.augment.registry import operation
from normfree.augment.shift import shift

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Mix",
    "RandAugment",
    "draw_mix",
    "mix",
    "mix_bytes",
    "normalize",
    "operation",
    "shift",
    "to_bytes",
]
