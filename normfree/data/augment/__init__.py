"""What happens to a training picture on its way: crop and flip, shift, normalize."""

from __future__ import annotations

from normfree.data.augment.crop import Box, distorted_bounding_box, random_crop_resize
from normfree.data.augment.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize
from normfree.data.augment.shift import shift

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Box",
    "distorted_bounding_box",
    "normalize",
    "random_crop_resize",
    "shift",
]
