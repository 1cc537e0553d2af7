"""Transforms that the loader applies to each image before it enters a batch.

A transform is any function ``(image, rng) -> image``. The two here are for photographs. They are
frozen dataclasses, so they are picklable and print well in a run's configuration. They are also
views (:class:`ViewTransform`): they decide what to show from the size of an image, so the loader
decodes only that part of a file, straight into the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from normfree.data.crop import Crop, random_crop_view
from normfree.data.preprocess import center_crop_view, resize_crop_view
from normfree.data.resize import Resize
from normfree.data.view import Pixels, PixelType, View, render

Transform: TypeAlias = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]
"""Takes an image (h, w, c) and the generator of its example and epoch (None in evaluation)."""


@runtime_checkable
class ViewTransform(Protocol):
    """A transform that is a view of the image, decided from its size."""

    @property
    def dtype(self) -> PixelType:
        """Of the result."""
        ...

    def view(self, height: int, width: int, rng: np.random.Generator | None) -> View:
        """What to show of an image of this size."""
        ...

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """The view of an image in memory."""
        ...


@dataclass(frozen=True)
class TrainTransform:
    """Random crop and horizontal flip, resized to a square.

    Args:
        size: side of the result, pixels.
        flip: whether to flip horizontally with probability ½.
        crop: distribution of the crops.
        resize: the filter.
        dtype: of the result; uint8 is rounded and clipped.

    >>> transform = TrainTransform(32)
    >>> transform(np.zeros((90, 130, 3), dtype=np.uint8), np.random.default_rng(0)).shape
    (32, 32, 3)
    """

    size: int
    flip: bool = True
    crop: Crop = "tensorflow"
    resize: Resize = "tensorflow"
    dtype: PixelType = "float32"

    def view(self, height: int, width: int, rng: np.random.Generator | None) -> View:
        """Draw the crop and the flip."""
        if rng is None:
            raise ValueError("TrainTransform needs a generator: use EvalTransform for evaluation")
        return random_crop_view(
            height, width, self.size, rng, flip=self.flip, crop=self.crop, resize=self.resize
        )

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator | None
    ) -> Float32[np.ndarray, "size size c"] | UInt8[np.ndarray, "size size c"]:
        """Crop, flip and resize the image."""
        height, width, _ = image.shape
        view = self.view(height, width, rng)
        return render(Pixels(image), view, dtype=self.dtype).transpose(1, 2, 0)


@dataclass(frozen=True)
class EvalTransform:
    """Evaluation preprocessing.

    Args:
        size: side of the result, pixels.
        margin: total pixels cropped along each axis.
        keep_aspect: if True, crop a central square and resize it (as for NF-RegNets); if False,
            resize both sides and crop the center (as for NFNets).
        resize: the filter.
        dtype: of the result; uint8 is rounded and clipped.

    >>> EvalTransform(32)(np.zeros((90, 130, 3), dtype=np.uint8)).shape
    (32, 32, 3)
    """

    size: int
    margin: int = 32
    keep_aspect: bool = False
    resize: Resize = "tensorflow"
    dtype: PixelType = "float32"

    def view(self, height: int, width: int, rng: np.random.Generator | None = None) -> View:
        """The center of the image; ``rng`` is not used."""
        view = center_crop_view if self.keep_aspect else resize_crop_view
        return view(height, width, self.size, self.margin, resize=self.resize)

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator | None = None
    ) -> Float32[np.ndarray, "size size c"] | UInt8[np.ndarray, "size size c"]:
        """Preprocess the image; ``rng`` is not used."""
        height, width, _ = image.shape
        view = self.view(height, width, rng)
        return render(Pixels(image), view, dtype=self.dtype).transpose(1, 2, 0)
