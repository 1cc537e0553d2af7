"""What happens to a training picture: crop and flip, shift, mix, RandAugment, normalize."""

from __future__ import annotations

from normfree.data.augment.crop import (
    Box,
    Crop,
    distorted_bounding_box,
    random_crop_resize,
    random_resized_crop_box,
)
from normfree.data.augment.mix import Mix, draw_mix, mix, mix_bytes
from normfree.data.augment.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize
from normfree.data.augment.operations import to_bytes
from normfree.data.augment.randaugment import RandAugment
from normfree.data.augment.shift import shift

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Box",
    "Crop",
    "Mix",
    "RandAugment",
    "distorted_bounding_box",
    "draw_mix",
    "mix",
    "mix_bytes",
    "normalize",
    "random_crop_resize",
    "random_resized_crop_box",
    "shift",
    "to_bytes",
]
