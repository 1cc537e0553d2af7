"""From images of any kind to what a network takes in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from normfree.augment import normalize
from normfree.data import ArraySource, Batch, EvalTransform, Source, Transform, decode
from normfree.errors import BadImageError, UserError
from normfree.weights import ModelCard

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray
"""The path of a file, an image of Pillow, or grey levels (h, w) or (h, w, c) of type uint8."""


def card_transform(card: ModelCard) -> EvalTransform:
    """What is done to an image before it is normalized.

    >>> from normfree.models import build_model
    >>> from normfree.weights import describe
    >>> card = describe(build_model("nfnet_f0", device="meta"), {"test_margin": 32})
    >>> card_transform(card)
    EvalTransform(size=256, margin=32, keep_aspect=False)
    """
    return EvalTransform(card.test_size, card.test_margin, card.test_crop == "crop_resize")


def source_transform(transform: EvalTransform, source: Source) -> Transform | None:
    """A transform, unless it would leave every image of a source as it is."""
    size = (transform.size, transform.size)
    small = isinstance(source, ArraySource) and source.pixels.shape[1:3] == size
    return None if small and transform.margin == 0 else transform


@dataclass(frozen=True)
class CardInputs:
    """How batches become the inputs of a network.

    Args:
        card: of the network.
        device: where it is.
    """

    card: ModelCard
    device: str

    def normalize(self, images: Tensor) -> Float[Tensor, "n c h w"]:
        """Grey levels, on the device and normalized."""
        mean, std = self.card.mean, self.card.std
        if mean is None or std is None:
            raise UserError("the card does not say how images are normalized")
        return normalize(images.to(self.device), mean, std)

    def __call__(self, batch: Batch) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Images (normalized) and labels, on the device."""
        return self.normalize(batch.images), batch.labels.to(self.device)


def read_image(image: ImageLike, channels: int, name: str = "") -> UInt8[np.ndarray, "h w c"]:
    """The pixels of an image.

    Args:
        image: a path, an image of Pillow, or grey levels.
        channels: 3 for colour (grey images are repeated), 1 for grey.
        name: what to call the image in an error; by default the file.

    Raises:
        BadImageError: it cannot be read.
        UserError: it is no image.

    >>> read_image(np.zeros((4, 6), np.uint8), channels=3).shape
    (4, 6, 3)
    """
    if isinstance(image, str | Path):
        return decode(Path(image), channels=channels)
    if isinstance(image, Image.Image):
        image = _pillow_pixels(image, name)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
        raise UserError(
            f"{name or 'the image'} is no image: expected a path, an image of Pillow, or a uint8 "
            f"array (h, w) or (h, w, c) of grey levels; got {found}"
        )
    pixels = image if image.ndim == 3 else image[:, :, None]
    if 0 in pixels.shape or pixels.shape[2] not in (1, channels):
        raise UserError(
            f"{name or 'the image'} has the shape {pixels.shape}; expected {channels} channels"
        )
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], channels)))


def _pillow_pixels(image: Image.Image, name: str) -> UInt8[np.ndarray, "h w c"]:
    """Upright, as bytes; grey of sixteen bits is divided by 256, as in a file."""
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode in ("F", "I"):
            raise BadImageError(name, "its grey has no known white: store it with 8 or 16 bits")
        if image.mode.startswith("I;16"):
            return (np.asarray(image) >> 8).astype(np.uint8)
        if image.mode == "P":  # a palette's transparency must not be guessed at
            image = image.convert("RGBA")
        return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # a file that Pillow reads only now
        raise BadImageError(name, str(error)) from error


def stack(images: list[np.ndarray]) -> Tensor:
    """Images of one size as a batch."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
