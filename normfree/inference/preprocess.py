"""Convert images to network inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from normfree.augment import normalize
from normfree.data import ArraySource, Batch, EvalTransform, Source, Transform, decode
from normfree.data.pillow import orientation, upright, without_pillow_warnings
from normfree.data.preprocess import photograph_margin
from normfree.data.resize import Resize
from normfree.data.view import PixelType
from normfree.errors import BadImageError, UserError
from normfree.weights import ModelCard

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray
"""A path, a Pillow image, or a uint8 array (h, w) or (h, w, c)."""


def card_transform(card: ModelCard) -> EvalTransform:
    """The resizing and cropping that a card prescribes, before normalization.

    >>> from normfree.models import build_model
    >>> from normfree.weights import describe
    >>> card = describe(build_model("nfnet_f0", device="meta"), {"test_margin": 32})
    >>> card_transform(card)
    EvalTransform(size=256, margin=32, keep_aspect=False, resize='tensorflow', dtype='float32')
    """
    return EvalTransform(
        card.test_size,
        card.test_margin,
        card.test_crop == "crop_resize",
        resize=card.filter,
        dtype=card.image_dtype,
    )


def override_transform(
    transform: EvalTransform, resize: Resize | None = None, dtype: PixelType | None = None
) -> EvalTransform:
    """The transform with another filter or type of pixels; None keeps its own.

    >>> override_transform(EvalTransform(64), resize="bicubic").resize
    'bicubic'
    """
    return replace(
        transform,
        resize=transform.resize if resize is None else resize,
        dtype=transform.dtype if dtype is None else dtype,
    )


def resized_transform(transform: EvalTransform, size: int) -> EvalTransform:
    """The transform for another size of the network's input, with a margin by the same rule.

    The rule is :func:`normfree.data.preprocess.photograph_margin` where the margin follows it;
    any other margin stays the same part of the resized image.

    >>> resized_transform(EvalTransform(256, margin=32), 32).margin
    4
    >>> resized_transform(EvalTransform(100, margin=20), 50).margin
    10
    >>> resized_transform(EvalTransform(28, margin=0), 32).margin
    0
    """
    if transform.margin and transform.margin == photograph_margin(transform.size):
        return replace(transform, size=size, margin=photograph_margin(size))
    return replace(transform, size=size, margin=round(size * transform.margin / transform.size))


def source_transform(transform: EvalTransform, source: Source) -> Transform | None:
    """The transform, or None if it would not change any image of the source."""
    size = (transform.size, transform.size)
    small = isinstance(source, ArraySource) and source.pixels.shape[1:3] == size
    return None if small and transform.margin == 0 else transform


@dataclass(frozen=True)
class CardInputs:
    """Moves batches to a device and normalizes them.

    Args:
        card: card of the network.
        device: device of the network.
    """

    card: ModelCard
    device: str

    def normalize(self, images: Tensor) -> Float[Tensor, "n c h w"]:
        """Move pixel values to the device and normalize them."""
        mean, std = self.card.mean, self.card.std
        if mean is None or std is None:
            raise UserError("the card has no mean and std to normalize images with")
        return normalize(images.to(self.device), mean, std)

    def __call__(self, batch: Batch) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Normalized images and labels, on the device."""
        return self.normalize(batch.images), batch.labels.to(self.device)


def read_image(image: ImageLike, channels: int, name: str = "") -> UInt8[np.ndarray, "h w c"]:
    """The pixels of an image.

    Args:
        image: a path, a Pillow image, or a uint8 array.
        channels: 3 for RGB (grayscale images are repeated), 1 for grayscale.
        name: the image's name in error messages; the path by default.

    Raises:
        BadImageError: the image cannot be read.
        UserError: the argument is not an image.

    >>> read_image(np.zeros((4, 6), np.uint8), channels=3).shape
    (4, 6, 3)
    """
    if isinstance(image, str | Path):
        return decode(Path(image), channels=channels)
    if isinstance(image, Image.Image):
        with without_pillow_warnings():
            image = _pillow_pixels(image, name)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
        raise UserError(
            f"{name or 'the image'} is not an image: expected a path, a Pillow image, or a uint8 "
            f"array (h, w) or (h, w, c); got {found}"
        )
    pixels = image if image.ndim == 3 else image[:, :, None]
    if 0 in pixels.shape[:2]:
        raise UserError(
            f"{name or 'the image'} is empty: it has the shape {image.shape}; pass one with pixels"
        )
    if pixels.shape[2] not in (1, channels):
        raise UserError(
            f"{name or 'the image'} has the shape {pixels.shape}; expected {channels} channels"
        )
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], channels)))


def _pillow_pixels(image: Image.Image, name: str) -> UInt8[np.ndarray, "h w c"]:
    """Pixels of a Pillow image, treated like a file: EXIF orientation, 16-bit divided by 256."""
    held = orientation(image)
    try:
        if image.mode in ("F", "I"):
            raise BadImageError(name, "its white level is unknown: store it with 8 or 16 bits")
        if image.mode.startswith("I;16"):
            return upright((np.asarray(image) >> 8).astype(np.uint8), held)
        if image.mode == "P":  # converting a transparent palette to RGB directly makes Pillow warn
            image = image.convert("RGBA")
        plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
        return upright(np.asarray(plain), held)
    except (OSError, SyntaxError) as error:  # Pillow reads files lazily
        raise BadImageError(name, str(error)) from error


def stack(images: list[np.ndarray]) -> Tensor:
    """Stack images of one size into a batch."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
