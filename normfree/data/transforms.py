"""Transforms: what the loader does to a stored image before it enters a batch.

A transform is any ``(image, rng) -> image``. These two are for photographs; they are small frozen
dataclasses so that they print well in a run's configuration and travel to worker processes.
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
"""Takes an image (h, w, c) and the generator of its example and epoch (None for evaluation)."""


@dataclass(frozen=True)
class TrainTransform:
    """Random crop and flip, resized to a square.

    Args:
        size: side of the result, pixels.
        flip: whether to mirror left and right with probability ½.
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
        """A random crop of the image."""
        if rng is None:
            raise ValueError("TrainTransform draws at random: use EvalTransform to evaluate")
        return random_crop_resize(image, self.size, rng, flip=self.flip, crop=self.crop)


@dataclass(frozen=True)
class EvalTransform:
    """Evaluation preprocessing.

    Args:
        size: side of the result, pixels.
        margin: total pixels cut off along each axis.
        keep_aspect: cut a central square and resize it (as the NF-RegNets are evaluated), rather
            than resize both sides and cut the centre (as the NFNets are).

    >>> EvalTransform(32)(np.zeros((90, 130, 3), dtype=np.uint8)).shape
    (32, 32, 3)
    """

    size: int
    margin: int = 32
    keep_aspect: bool = False

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator | None = None
    ) -> Float32[np.ndarray, "size size c"]:
        """The preprocessed image; ``rng`` is not used."""
        preprocess = center_crop_resize if self.keep_aspect else resize_crop
        return preprocess(image, self.size, self.margin)
