"""Gray levels as bytes: their limits, and the number of images to process at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor

FILL = 128
"""The gray level for pixels that an operation leaves empty."""

LEVELS = 256
"""The number of gray levels."""

_CHUNK = 1 << 20  # elements at a time on the CPU, so that temporaries stay in its cache


def chunk_length(images: Shaped[Tensor, "n c h w"]) -> int:
    """The number of images to process at a time: few on the CPU, for its cache; else all.

    >>> chunk_length(torch.zeros(128, 3, 192, 192, dtype=torch.uint8))
    9
    """
    if images.device.type != "cpu":
        return max(1, len(images))
    return max(1, _CHUNK // max(1, images[0].numel() if len(images) else 1))


def to_bytes(images: Shaped[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Clip to 0 … 255 and drop the fraction, as for mixed or resized images.

    Bytes are returned unchanged.

    >>> to_bytes(torch.tensor([-3.0, 1.9, 254.999, 300.0]).view(1, 1, 1, 4))
    tensor([[[[  0,   1, 254, 255]]]], dtype=torch.uint8)

    Source: the authors' ``autoaugment.py``, ``tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8)``.
    """
    if images.dtype == torch.uint8:
        return images
    result = torch.empty_like(images, dtype=torch.uint8)
    length = chunk_length(images)
    for start in range(0, len(images), length):
        part = slice(start, start + length)
        result[part] = images[part].clamp(0, 255).to(torch.int16)
    return result


def clip_bytes(x: Float32[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Clip to 0 … 255 and drop the fractions; overwrites ``x``."""
    return floor_bytes(x.clamp_(0, 255))


def floor_bytes(x: Float32[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Drop the fractions of numbers from 0 to 255 (through int16, which is vectorized)."""
    return x.to(torch.int16).to(torch.uint8)


def floor(x: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Drop the fractions of numbers from 0 to 255."""
    return x.to(torch.int16).float()
