"""What happens to a training picture on its way: crop and flip, shift, mix, normalize."""

from __future__ import annotations

from normfree.data.augment.crop import (
    Box,
    Crop,
    distorted_bounding_box,
    random_crop_resize,
    random_resized_crop_box,
)
from normfree.data.augment.mix import Mix, draw_mix, mix
from normfree.data.augment.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize
from normfree.data.augment.shift import shift

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Box",
    "Crop",
    "Mix",
    "distorted_bounding_box",
    "draw_mix",
    "mix",
    "normalize",
    "random_crop_resize",
    "random_resized_crop_box",
    "shift",
]
