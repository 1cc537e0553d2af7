"""Transforms that the loader applies to each image before it enters a batch.

A transform is any function ``(image, rng) -> image``. The two here are for photographs. They are
frozen dataclasses, so they are picklable and print well in a run's configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from normfree.data.crop import Crop, random_crop_resize
from normfree.data.preprocess import center_crop_resize, resize_crop

Transform: TypeAlias = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]
"""Takes an image (h, w, c) and the generator of its example and epoch (None in evaluation)."""


@dataclass(frozen=True)
class TrainTransform:
    """Random crop and horizontal flip, resized to a square.

    Args:
        size: side of the result, pixels.
        flip: whether to flip horizontally with probability ½.
        crop: distribution of the crops.

    >>> transform = TrainTransform(32)
    >>> transform(np.zeros((90, 130, 3), dtype=np.uint8), np.random.default_rng(0)).shape
    (32, 32, 3)
    """

    size: int
    flip: bool = True
    crop: Crop = "tensorflow"

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator | None
    ) -> Float32[np.ndarray, "size size c"]:
        """Crop, flip and resize the image."""
        if rng is None:
            raise ValueError("TrainTransform needs a generator: use EvalTransform for evaluation")
        return random_crop_resize(image, self.size, rng, flip=self.flip, crop=self.crop)


@dataclass(frozen=True)
class EvalTransform:
    """Evaluation preprocessing.

    Args:
        size: side of the result, pixels.
        margin: total pixels cropped along each axis.
        keep_aspect: if True, crop a central square and resize it (as for NF-RegNets); if False,
            resize both sides and crop the center (as for NFNets).

    >>> EvalTransform(32)(np.zeros((90, 130, 3), dtype=np.uint8)).shape
    (32, 32, 3)
    """

    size: int
    margin: int = 32
    keep_aspect: bool = False

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator | None = None
    ) -> Float32[np.ndarray, "size size c"]:
        """Preprocess the image; ``rng`` is not used."""
        preprocess = center_crop_resize if self.keep_aspect else resize_crop
        return preprocess(image, self.size, self.margin)
