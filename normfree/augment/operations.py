"""RandAugment's operations on grey levels: whole batches of bytes, on any device.

Each is a pure function and treats each image alone. Where bytes suffice there are only bytes, and
no comparison of pixels: on a CPU, PyTorch vectorizes the arithmetic of bytes, not their choice.
"""

from __future__ import annotations

import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from torch import Tensor

FILL = 128
"""The grey level of what an operation leaves without a pixel."""

_LEVELS = 256
_GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)  # TensorFlow's; they sum to 0.9999
_PILLOW_GREY_WEIGHTS = (19595, 38470, 7471)  # of 2¹⁶
_CHUNK = 1 << 20  # elements at a time, on a CPU: temporaries then stay in its cache


def chunk_length(images: Shaped[Tensor, "n c h w"]) -> int:
    """How many images to treat at a time: few on a CPU, for its cache; else all.

    >>> chunk_length(torch.zeros(128, 3, 192, 192, dtype=torch.uint8))
    9
    """
    if images.device.type != "cpu":
        return max(1, len(images))
    return max(1, _CHUNK // max(1, images[0].numel() if len(images) else 1))


def to_bytes(images: Shaped[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Clip to 0 … 255 and drop the fraction, as what mixed or resized images go through.

    Bytes stay as they are.

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


def auto_contrast(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Stretch each channel to the full range: ``x·s − low·s``, ``s = 255 / (high − low)``.

    A channel of one grey level stays.

    >>> auto_contrast(torch.tensor([[[[50, 60, 100]]]], dtype=torch.uint8))
    tensor([[[[  0,  51, 255]]]], dtype=torch.uint8)

    Differs from: Pillow's and timm's, which build the table in double precision.
    """
    low = images.amin((2, 3), keepdim=True).float()
    high = images.amax((2, 3), keepdim=True).float()
    flat = high == low
    # Not ``255 / …``: of a Python number, PyTorch multiplies with the reciprocal, rounding twice.
    scale = torch.full_like(low, 255).div_((high - low).clamp_(min=1))
    scale = torch.where(flat, 1.0, scale)
    offset = torch.where(flat, 0.0, -low * scale)
    return _floor_bytes(images.float().mul_(scale).add_(offset))


def equalize(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Flatten each channel's histogram ``h`` (integers throughout).

    ``y(x) = (Σ_{v<x} h(v) + ⌊q/2⌋) // q`` up to 255, ``q = (pixels − h(highest level)) // 255``; a
    channel with ``q = 0`` stays.

    >>> equalize((torch.arange(512) // 8).view(1, 1, 16, 32).to(torch.uint8))[0, 0, 1, ::8]
    tensor([32, 40, 48, 56], dtype=torch.uint8)
    """
    pixels = images.flatten(2)
    counts = _histograms(pixels)
    # The last count is that of the highest level present.
    last = counts.gather(2, pixels.amax(2, keepdim=True).long())
    step = (pixels.shape[2] - last) // 255
    divisor = step.clamp(min=1)
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // divisor).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(_LEVELS, device=images.device), table)
    return _look_up(table.to(torch.uint8), pixels).view_as(images)


def invert(images: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """``255 − x``.

    >>> invert(torch.tensor([[[[0, 100, 255]]]], dtype=torch.uint8))
    tensor([[[[255, 155,   0]]]], dtype=torch.uint8)
    """
    return ~images


def posterize(images: UInt8[Tensor, "n c h w"], bits: int) -> UInt8[Tensor, "n c h w"]:
    """Keep the highest ``bits`` bits of each grey level, 0 to 8.

    >>> posterize(torch.tensor([[[[63, 64, 255]]]], dtype=torch.uint8), bits=2)
    tensor([[[[  0,  64, 192]]]], dtype=torch.uint8)
    """
    return images & (255 - (255 >> bits))


def solarize(images: UInt8[Tensor, "n c h w"], threshold: int) -> UInt8[Tensor, "n c h w"]:
    """``255 − x`` where ``x ≥ threshold``, 0 to 256; ``x`` elsewhere.

    >>> solarize(torch.tensor([[[[0, 127, 128, 255]]]], dtype=torch.uint8), threshold=128)
    tensor([[[[  0, 127, 127,   0]]]], dtype=torch.uint8)
    """
    if threshold <= 0:
        return invert(images)
    if threshold >= _LEVELS:
        return images.clone()
    return images ^ _all_bits_from(images, threshold)


def solarize_add(
    images: UInt8[Tensor, "n c h w"], addition: int, threshold: int = 128
) -> UInt8[Tensor, "n c h w"]:
    """``min(255, x + addition)`` where ``x < threshold``, 1 to 255; ``x`` elsewhere.

    >>> solarize_add(torch.tensor([[[[0, 127, 128]]]], dtype=torch.uint8), addition=150)
    tensor([[[[150, 255, 128]]]], dtype=torch.uint8)
    """
    added = _all_bits_from(images, threshold).bitwise_not_().bitwise_and_(min(addition, 255))
    return torch.minimum(added, ~images).add_(images)  # 255 − x is all that fits


def color(images: UInt8[Tensor, "n c h w"], factor: float) -> UInt8[Tensor, "n c h w"]:
    """``g + factor·(x − g)``, ``g`` the grey image: 0 takes the colour away, above 1 adds to it.

    ``g = ⌊(0.2989·r + 0.587·g + 0.114·b)·255.5/255⌋``. An image of one channel stays.

    >>> image = torch.tensor([200, 100, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    >>> color(image, 0.0).flatten(), color(image, 1.5).flatten()
    (tensor([118, 118, 118], dtype=torch.uint8), tensor([241,  91,   0], dtype=torch.uint8))

    Source: ``tf.image.rgb_to_grayscale``, in its order of operations.
    """
    if images.shape[1] != len(_GREY_WEIGHTS):
        return images.clone()
    x = images.float()
    red, green, blue = (x * (1 / 255)).unbind(1)
    grey = red * _GREY_WEIGHTS[0]
    grey.add_(green, alpha=_GREY_WEIGHTS[1]).add_(blue, alpha=_GREY_WEIGHTS[2]).mul_(255.5)
    return _blend(x, _floor(grey)[:, None], factor)


def contrast(
    images: UInt8[Tensor, "n c h w"], factor: float, quirks: bool = True
) -> UInt8[Tensor, "n c h w"]:
    """``m + factor·(x − m)`` with one grey level ``m``: 0 gives a grey image.

    Args:
        images: bytes.
        factor: above 1 for more contrast.
        quirks: the authors' ``m = ⌊min(255, h·w / 256)⌋``, which is no mean of the image but its
            number of pixels; else the rounded mean of the grey image.

    >>> image = torch.tensor([[[[90, 110]]]], dtype=torch.uint8)
    >>> contrast(image, 2.0), contrast(image, 2.0, quirks=False)
    (tensor([[[[180, 220]]]], dtype=torch.uint8), tensor([[[[ 80, 120]]]], dtype=torch.uint8))

    Source: the authors' ``autoaugment.py``; Pillow's ``ImageEnhance.Contrast`` for the mean.
    """
    height, width = images.shape[2:]
    middle = min(255, height * width // _LEVELS) if quirks else _mean_grey(images)
    return _blend(images.float(), middle, factor)


def brightness(images: UInt8[Tensor, "n c h w"], factor: float) -> UInt8[Tensor, "n c h w"]:
    """``factor·x``, clipped.

    >>> brightness(torch.tensor([[[[1, 100, 200]]]], dtype=torch.uint8), 1.5)
    tensor([[[[  1, 150, 255]]]], dtype=torch.uint8)
    """
    return _clip_bytes(images.float().mul_(factor))


def sharpness(images: UInt8[Tensor, "n c h w"], factor: float) -> UInt8[Tensor, "n c h w"]:
    """``s + factor·(x − s)``, ``s`` the smoothed image: 0 smooths, above 1 sharpens.

    ``s = ⌊(Σ of the nine + 4·centre) / 13⌋``; the outermost pixels stay.

    >>> image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    >>> image[0, 0, 1, 1] = 130
    >>> sharpness(image, 0.0)[0, 0, 1], sharpness(image, 1.5)[0, 0, 1]
    (tensor([ 0, 50,  0], dtype=torch.uint8), tensor([  0, 170,   0], dtype=torch.uint8))

    Source: the authors' ``autoaugment.py``. The sum is a chain of fused multiply-adds in float32,
    row by row, as in their convolution, whose rounding decides where the quotient is whole; on a
    processor without that instruction such pixels may come out one lower.
    """
    width = images.shape[3]
    if min(images.shape[2:]) < 3:
        return images.clone()
    images = images.contiguous()
    x = images.float().view(-1)
    # Over the whole batch as one line: what straddles an edge is an outermost pixel.
    length = x.numel() - 2 * (width + 1)
    taps = [x[row * width + column :][:length] for row in range(3) for column in range(3)]
    smooth = taps[0] * (1 / 13)
    for place, tap in enumerate(taps[1:], start=1):
        smooth.add_(tap, alpha=5 / 13 if place == 4 else 1 / 13)
    smooth = _floor(smooth)
    result = torch.empty_like(images)
    result.view(-1)[width + 1 :][:length] = _blend(taps[4], smooth, factor)
    for border in (0, -1):
        result[:, :, border] = images[:, :, border]
        result[:, :, :, border] = images[:, :, :, border]
    return result


def cutout(
    images: UInt8[Tensor, "n c h w"],
    rows: Int64[Tensor, " n"],
    columns: Int64[Tensor, " n"],
    pad: int,
) -> UInt8[Tensor, "n c h w"]:
    """A grey square of side ``2·pad``, cut off at the image's edges.

    Args:
        images: bytes.
        rows: of the squares' centres; a square's rows are ``row − pad … row + pad − 1``.
        columns: of the squares' centres.
        pad: half of the side, pixels.

    >>> image = torch.zeros(1, 1, 1, 6, dtype=torch.uint8)
    >>> cutout(image, torch.tensor([0]), torch.tensor([4]), pad=1)
    tensor([[[[  0,   0,   0, 128, 128,   0]]]], dtype=torch.uint8)
    """
    height, width = images.shape[2:]
    inside_rows, inside_columns = _within(rows, height, pad), _within(columns, width, pad)
    square = inside_rows[:, None, :, None] & inside_columns[:, None, None]
    return (images & ~square).bitwise_or_(square & FILL)


def _within(centers: Int64[Tensor, " n"], length: int, pad: int) -> UInt8[Tensor, "n length"]:
    """255 from ``center − pad`` to ``center + pad − 1``, otherwise 0."""
    middles = torch.arange(1, 2 * length, 2, device=centers.device)  # twice those of the pixels
    return ((middles - 2 * centers[:, None]).abs_() < 2 * pad).to(torch.uint8).mul_(255)


def _all_bits_from(images: UInt8[Tensor, "*shape"], threshold: int) -> UInt8[Tensor, "*shape"]:
    """255 where ``x ≥ threshold``, 1 to 255; otherwise 0."""
    return images.clamp(threshold - 1, threshold).sub_(threshold - 1).mul_(255)


def _histograms(pixels: UInt8[Tensor, "n c pixels"]) -> Int64[Tensor, "n c 256"]:
    """How many pixels of each channel have each level."""
    n, c, _ = pixels.shape
    if pixels.device.type == "cpu" and n:  # twice as fast; on a GPU, each would be waited for
        channels = pixels.flatten(0, 1).unbind()
        counts = [torch.bincount(channel, minlength=_LEVELS) for channel in channels]
        return torch.stack(counts).view(n, c, _LEVELS)
    one = torch.ones((), dtype=torch.int64, device=pixels.device).expand_as(pixels)
    return one.new_zeros(n, c, _LEVELS).scatter_add_(2, pixels.long(), one)


def _look_up(
    table: UInt8[Tensor, "n c 256"], pixels: UInt8[Tensor, "n c pixels"]
) -> UInt8[Tensor, "n c pixels"]:
    """``table[pixel]``, each channel in its own table."""
    result = torch.empty_like(pixels)
    # On a CPU one image at a time, for PyTorch wants places in 64 bits: eight times the bytes.
    length = 1 if pixels.device.type == "cpu" else max(1, len(pixels))
    for out, own, part in zip(*(x.split(length) for x in (result, table, pixels)), strict=True):
        torch.gather(own, 2, part.long(), out=out)
    return result


def _mean_grey(images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n 1 1 1"]:
    """The rounded mean of Pillow's grey image."""
    grey = images.to(torch.int32)
    if images.shape[1] == len(_PILLOW_GREY_WEIGHTS):
        red, green, blue = (
            part * weight for part, weight in zip(grey.unbind(1), _PILLOW_GREY_WEIGHTS, strict=True)
        )
        grey = (red + green + blue + 0x8000) >> 16
    pixels = images.shape[2] * images.shape[3]
    total = grey.flatten(1).sum(1)
    return ((2 * total + pixels) // (2 * pixels)).float()[:, None, None, None]


def _blend(
    x: Float32[Tensor, "*shape"], other: Float32[Tensor, "..."] | int, factor: float
) -> UInt8[Tensor, "*shape"]:
    """``other + factor·(x − other)`` clipped, with a rounding after each step; overwrites ``x``."""
    return _clip_bytes(x.sub_(other).mul_(factor).add_(other))


def _clip_bytes(x: Float32[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Clip to 0 … 255 and drop the fractions; overwrites ``x``."""
    return _floor_bytes(x.clamp_(0, 255))


def _floor_bytes(x: Float32[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Drop the fractions of numbers from 0 to 255 (by 16 bits, which is vectorized)."""
    return x.to(torch.int16).to(torch.uint8)


def _floor(x: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Drop the fractions of numbers from 0 to 255."""
    return x.to(torch.int16).float()
