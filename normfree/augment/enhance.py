"""RandAugment operations that blend an image with a flat, gray or smoothed version of itself.

Each computes ``s + factor·(x − s)``, clipped, for whole batches of bytes on any device.
"""

from __future__ import annotations

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from normfree.augment.levels import LEVELS, clip_bytes, floor
from normfree.augment.registry import Level, operation

_GRAY_WEIGHTS = (0.2989, 0.5870, 0.1140)  # TensorFlow's; they sum to 0.9999
_PILLOW_GRAY_WEIGHTS = (19595, 38470, 7471)  # of 2¹⁶


def _factor(level: Level) -> float:
    """The authors' factor, which all four operations share."""
    return level.share * 1.8 + 0.1


def _either_way(level: Level) -> float:
    """The factor without quirks, symmetric about 1."""
    return max(0.1, 1 + level.sign * (level.share * 0.9))


@operation("Color", authors=_factor, clean=_either_way, neutral=1, kernel="color")
def color(images: UInt8[Tensor, "n c h w"], factor: float) -> UInt8[Tensor, "n c h w"]:
    """``g + factor·(x − g)`` with the gray image ``g``: 0 removes color, above 1 intensifies it.

    ``g = ⌊(0.2989·r + 0.587·g + 0.114·b)·255.5/255⌋``. One-channel images are unchanged.

    >>> image = torch.tensor([200, 100, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    >>> color(image, 0.0).flatten(), color(image, 1.5).flatten()
    (tensor([118, 118, 118], dtype=torch.uint8), tensor([241,  91,   0], dtype=torch.uint8))

    Source: ``tf.image.rgb_to_grayscale``, with its order of operations.
    """
    if images.shape[1] != len(_GRAY_WEIGHTS):
        return images.clone()
    x = images.float()
    red, green, blue = (x * (1 / 255)).unbind(1)
    gray = red * _GRAY_WEIGHTS[0]
    gray.add_(green, alpha=_GRAY_WEIGHTS[1]).add_(blue, alpha=_GRAY_WEIGHTS[2]).mul_(255.5)
    return _blend(x, floor(gray)[:, None], factor)


@operation(
    "Contrast",
    authors=lambda level: (_factor(level), True),
    clean=lambda level: (_either_way(level), False),
    neutral=1,
    kernel="contrast",
)
def contrast(
    images: UInt8[Tensor, "n c h w"], factor: float, quirks: bool = True
) -> UInt8[Tensor, "n c h w"]:
    """``m + factor·(x − m)`` with a gray level ``m`` per image: 0 gives a gray image.

    Args:
        images: bytes.
        factor: values above 1 increase the contrast.
        quirks: whether to use the authors' ``m = ⌊min(255, h·w / 256)⌋``, which depends on the
            number of pixels instead of their mean; else the rounded mean of the gray image.

    >>> image = torch.tensor([[[[90, 110]]]], dtype=torch.uint8)
    >>> contrast(image, 2.0), contrast(image, 2.0, quirks=False)
    (tensor([[[[180, 220]]]], dtype=torch.uint8), tensor([[[[ 80, 120]]]], dtype=torch.uint8))

    Source: the authors' ``autoaugment.py``; Pillow's ``ImageEnhance.Contrast`` for the mean.
    """
    height, width = images.shape[2:]
    middle = min(255, height * width // LEVELS) if quirks else _mean_gray(images)
    return _blend(images.float(), middle, factor)


@operation("Brightness", authors=_factor, clean=_either_way, neutral=1, kernel="brightness")
def brightness(images: UInt8[Tensor, "n c h w"], factor: float) -> UInt8[Tensor, "n c h w"]:
    """``factor·x``, clipped.

    >>> brightness(torch.tensor([[[[1, 100, 200]]]], dtype=torch.uint8), 1.5)
    tensor([[[[  1, 150, 255]]]], dtype=torch.uint8)
    """
    return clip_bytes(images.float().mul_(factor))


@operation("Sharpness", authors=_factor, clean=_either_way, neutral=1, kernel="sharpness")
def sharpness(images: UInt8[Tensor, "n c h w"], factor: float) -> UInt8[Tensor, "n c h w"]:
    """``s + factor·(x − s)`` with the smoothed image ``s``: 0 smooths, above 1 sharpens.

    ``s = ⌊(sum of 3×3 pixels + 4·center) / 13⌋``; border pixels are unchanged.

    >>> image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    >>> image[0, 0, 1, 1] = 130
    >>> sharpness(image, 0.0)[0, 0, 1], sharpness(image, 1.5)[0, 0, 1]
    (tensor([ 0, 50,  0], dtype=torch.uint8), tensor([  0, 170,   0], dtype=torch.uint8))

    Source: the authors' ``autoaugment.py``. As in their convolution, the sum is a chain of fused
    multiply-adds in float32, row by row. Its rounding matters if the quotient is an integer: on
    processors without fused multiply-adds, such pixels may be lower by one.
    """
    width = images.shape[3]
    if min(images.shape[2:]) < 3:
        return images.clone()
    images = images.contiguous()
    x = images.float().view(-1)
    # Process the batch as one line; only border pixels, which are restored, mix in other rows.
    length = x.numel() - 2 * (width + 1)
    taps = [x[row * width + column :][:length] for row in range(3) for column in range(3)]
    smooth = taps[0] * (1 / 13)
    for place, tap in enumerate(taps[1:], start=1):
        smooth.add_(tap, alpha=5 / 13 if place == 4 else 1 / 13)
    smooth = floor(smooth)
    result = torch.empty_like(images)
    result.view(-1)[width + 1 :][:length] = _blend(taps[4], smooth, factor)
    for border in (0, -1):
        result[:, :, border] = images[:, :, border]
        result[:, :, :, border] = images[:, :, :, border]
    return result


def _mean_gray(images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n 1 1 1"]:
    """The rounded mean of Pillow's gray image."""
    gray = images.to(torch.int32)
    if images.shape[1] == len(_PILLOW_GRAY_WEIGHTS):
        red, green, blue = (
            part * weight for part, weight in zip(gray.unbind(1), _PILLOW_GRAY_WEIGHTS, strict=True)
        )
        gray = (red + green + blue + 0x8000) >> 16
    pixels = images.shape[2] * images.shape[3]
    total = gray.flatten(1).sum(1)
    return ((2 * total + pixels) // (2 * pixels)).float()[:, None, None, None]


def _blend(
    x: Float32[Tensor, "*shape"], other: Float32[Tensor, "..."] | int, factor: float
) -> UInt8[Tensor, "*shape"]:
    """``other + factor·(x − other)``, rounded after each step and clipped; overwrites ``x``."""
    return clip_bytes(x.sub_(other).mul_(factor).add_(other))
