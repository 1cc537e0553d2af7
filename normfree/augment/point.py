"""Pointwise RandAugment operations on gray levels, for whole batches of bytes on any device.

Each is a pure function and processes each image independently. Where possible, the functions use
byte arithmetic without comparisons, because PyTorch vectorizes only the former on the CPU.
"""

from __future__ import annotations

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from normfree.augment.levels import LEVELS, floor_bytes
from normfree.augment.registry import operation


@operation("AutoContrast", kernel="auto_contrast")
def auto_contrast(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Stretch each channel to the full range: ``x·s − low·s`` with ``s = 255 / (high − low)``.

    A channel with a single gray level is unchanged.

    >>> auto_contrast(torch.tensor([[[[50, 60, 100]]]], dtype=torch.uint8))
    tensor([[[[  0,  51, 255]]]], dtype=torch.uint8)

    Differs from: Pillow and timm, which build the lookup table in double precision.
    """
    low = images.amin((2, 3), keepdim=True).float()
    high = images.amax((2, 3), keepdim=True).float()
    flat = high == low
    # Not ``255 / …``: PyTorch multiplies a Python number by the reciprocal, which rounds twice.
    scale = torch.full_like(low, 255).div_((high - low).clamp_(min=1))
    scale = torch.where(flat, 1.0, scale)
    offset = torch.where(flat, 0.0, -low * scale)
    return floor_bytes(images.float().mul_(scale).add_(offset))


@operation("Equalize", kernel="equalize")
def equalize(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Flatten each channel's histogram ``h`` (integers throughout).

    ``y(x) = (Σ_{v<x} h(v) + ⌊q/2⌋) // q``, at most 255, with
    ``q = (pixels − h(highest level)) // 255``. A channel with ``q = 0`` is unchanged.

    >>> equalize((torch.arange(512) // 8).view(1, 1, 16, 32).to(torch.uint8))[0, 0, 1, ::8]
    tensor([32, 40, 48, 56], dtype=torch.uint8)
    """
    pixels = images.flatten(2)
    counts = _histograms(pixels)
    # The last nonzero count is that of the highest level present.
    last = counts.gather(2, pixels.amax(2, keepdim=True).long())
    step = (pixels.shape[2] - last) // 255
    divisor = step.clamp(min=1)
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // divisor).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(LEVELS, device=images.device), table)
    return _look_up(table.to(torch.uint8), pixels).view_as(images)


@operation("Invert", kernel="invert")
def invert(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """``255 − x``.

    >>> invert(torch.tensor([[[[0, 100, 255]]]], dtype=torch.uint8))
    tensor([[[[255, 155,   0]]]], dtype=torch.uint8)
    """
    return ~images


@operation(
    "Posterize",
    authors=lambda level: min(8, int(level.share * 4)),
    clean=lambda level: max(1, 8 - round(level.share * 4)),
    neutral=8,
    kernel="posterize",
)
def posterize(images: UInt8[Tensor, "n c h w"], bits: int) -> UInt8[Tensor, "n c h w"]:
    """Keep the highest ``bits`` bits of each gray level, 0 to 8.

    >>> posterize(torch.tensor([[[[63, 64, 255]]]], dtype=torch.uint8), bits=2)
    tensor([[[[  0,  64, 192]]]], dtype=torch.uint8)
    """
    return images & (255 - (255 >> bits))


@operation(
    "Solarize",
    authors=lambda level: int(level.share * 256) % 256,
    clean=lambda level: max(0, 256 - int(level.share * 256)),
    neutral=256,
    kernel="solarize",
)
def solarize(images: UInt8[Tensor, "n c h w"], threshold: int) -> UInt8[Tensor, "n c h w"]:
    """``255 − x`` where ``x ≥ threshold``, 0 to 256; ``x`` elsewhere.

    >>> solarize(torch.tensor([[[[0, 127, 128, 255]]]], dtype=torch.uint8), threshold=128)
    tensor([[[[  0, 127, 127,   0]]]], dtype=torch.uint8)
    """
    if threshold <= 0:
        return invert(images)
    if threshold >= LEVELS:
        return images.clone()
    return images ^ _all_bits_from(images, threshold)


@operation(
    "SolarizeAdd", authors=lambda level: int(level.share * 110), neutral=0, kernel="solarize_add"
)
def solarize_add(
    images: UInt8[Tensor, "n c h w"], addition: int, threshold: int = 128
) -> UInt8[Tensor, "n c h w"]:
    """``min(255, x + addition)`` where ``x < threshold``, 1 to 255; ``x`` elsewhere.

    >>> solarize_add(torch.tensor([[[[0, 127, 128]]]], dtype=torch.uint8), addition=150)
    tensor([[[[150, 255, 128]]]], dtype=torch.uint8)
    """
    added = _all_bits_from(images, threshold).bitwise_not_().bitwise_and_(min(addition, 255))
    return torch.minimum(added, ~images).add_(images)  # at most 255 − x can be added


def _all_bits_from(images: UInt8[Tensor, "*shape"], threshold: int) -> UInt8[Tensor, "*shape"]:
    """255 where ``x ≥ threshold``, 1 to 255; otherwise 0."""
    return images.clamp(threshold - 1, threshold).sub_(threshold - 1).mul_(255)


def _histograms(pixels: UInt8[Tensor, "n c pixels"]) -> Int64[Tensor, "n c 256"]:
    """The number of pixels at each level, for each channel."""
    n, c, _ = pixels.shape
    if pixels.device.type == "cpu" and n:  # twice as fast; on a GPU, each would synchronize
        channels = pixels.flatten(0, 1).unbind()
        counts = [torch.bincount(channel, minlength=LEVELS) for channel in channels]
        return torch.stack(counts).view(n, c, LEVELS)
    one = torch.ones((), dtype=torch.int64, device=pixels.device).expand_as(pixels)
    return one.new_zeros(n, c, LEVELS).scatter_add_(2, pixels.long(), one)


def _look_up(
    table: UInt8[Tensor, "n c 256"], pixels: UInt8[Tensor, "n c pixels"]
) -> UInt8[Tensor, "n c pixels"]:
    """``table[pixel]`` with a separate table for each channel."""
    result = torch.empty_like(pixels)
    # On the CPU, one image at a time: PyTorch needs 64-bit indices, eight times the memory.
    length = 1 if pixels.device.type == "cpu" else max(1, len(pixels))
    for out, own, part in zip(*(x.split(length) for x in (result, table, pixels)), strict=True):
        torch.gather(own, 2, part.long(), out=out)
    return result
