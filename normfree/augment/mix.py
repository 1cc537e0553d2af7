"""MixUp and CutMix: blend two images into one, ``x = m·a + (1 − m)·b``.

In MixUp, m is constant over an image. In CutMix, it is 1 inside a box and 0 outside.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int, Int64, Shaped, UInt8
from torch import Tensor

from normfree import kernels
from normfree.augment.levels import to_bytes
from normfree.errors import UserError
from normfree.random import beta, uniform

_RATIO = 0x4D495855  # "MIXU": far from the small stream numbers of network layers
_PROPORTION = 0x4355544D  # "CUTM"
_CENTER = 0x43454E54  # "CENT"

_CHUNK = 8  # examples at a time, so that temporaries stay in the CPU cache


class Mix(NamedTuple):
    """How each example is mixed.

    Attributes:
        ratio: weight of the first image and of its label.
        boxes: top, bottom (exclusive), left and right (exclusive) of the box that the first image
            enters; the whole image in MixUp.
        cutmix: whether the first image replaces the box rather than blending into it.
    """

    ratio: Float32[Tensor, " n"]
    boxes: Int64[Tensor, "n 4"]
    cutmix: Bool[Tensor, " n"]

    def to(self, device: str | torch.device) -> Mix:
        """Copy to a device without synchronization."""
        pinned = torch.device(device).type == "cuda"
        parts = (part.pin_memory() if pinned else part for part in self)
        return Mix(*(part.to(device, non_blocking=True) for part in parts))


def draw_mix(
    keys: Int[Tensor, " n"],
    cutmix: Bool[Tensor, " n"],
    height: int,
    width: int,
    *,
    mixup_alpha: float = 0.2,
    cutmix_alpha: float = 1.0,
) -> Mix:
    """Draw the mixing parameters of each example as a pure function of its key.

    In MixUp, ``ratio ~ Beta(α, α)``. In CutMix, the center of the box is a uniformly drawn pixel,
    and the fraction of the image outside the box is ``~ Beta(α, α)`` before the box is cropped to
    the image. The ratio is the exact area fraction of the cropped box.

    Args:
        keys: one key per example.
        cutmix: which examples use CutMix; the others use MixUp.
        height: height of the images, pixels.
        width: width of the images, pixels.
        mixup_alpha: α of MixUp.
        cutmix_alpha: α of CutMix; 1 gives the uniform distribution.

    Raises:
        ValueError: an ``alpha`` is not a positive number.

    >>> drawn = draw_mix(torch.tensor([1, 2]), torch.tensor([False, True]), 48, 64)
    >>> drawn.ratio, drawn.boxes
    (tensor([0.7095, 0.4147]), tensor([[ 0, 48,  0, 64],
                                       [ 0, 26,  0, 49]]))

    Source: Zhang et al. (2018), *mixup*; Yun et al. (2019), *CutMix*; the authors' ``dataset.py``
    for the defaults and the rounding.
    """
    x, y = uniform(keys, _CENTER, 2).unbind(dim=1)
    outside = beta(keys, _PROPORTION, cutmix_alpha).float()
    boxes = cutmix_box((x * width).long(), (y * height).long(), outside, height, width)
    area = box_share(boxes, height, width)
    ratio = torch.where(cutmix, area, beta(keys, _RATIO, mixup_alpha).float())
    whole = torch.tensor([0, height, 0, width], device=keys.device)
    return Mix(ratio, torch.where(cutmix[:, None], boxes, whole), cutmix)


def cutmix_box(
    x: Int64[Tensor, " n"],
    y: Int64[Tensor, " n"],
    proportion: Float32[Tensor, " n"],
    height: int,
    width: int,
) -> Int64[Tensor, "n 4"]:
    """The CutMix box ``[y − h, y + h) × [x − w, x + w)``, cropped to the image.

    With ``h = ⌊H·√(1 − λ)⌋ div 2`` and ``w = ⌊W·√(1 − λ)⌋ div 2``, the box covers a fraction of
    about 1 − λ of the image before cropping.

    Args:
        x: column of the center.
        y: row of the center.
        proportion: λ, the area fraction outside the box.
        height: H, pixels.
        width: W, pixels.

    Returns:
        Top, bottom (exclusive), left and right (exclusive); boxes are empty if λ is near 1.

    >>> cutmix_box(torch.tensor([10]), torch.tensor([20]), torch.tensor([0.5]), 48, 64)
    tensor([[ 4, 36,  0, 32]])
    """
    side = (1 - proportion).sqrt()
    half_height = (side * height).long() // 2
    half_width = (side * width).long() // 2
    rows = torch.stack([y - half_height, y + half_height], dim=1).clamp(0, height)
    columns = torch.stack([x - half_width, x + half_width], dim=1).clamp(0, width)
    return torch.cat([rows, columns], dim=1)


def box_share(boxes: Int64[Tensor, "n 4"], height: int, width: int) -> Float32[Tensor, " n"]:
    """The area fraction of each box, which is the weight of its label.

    >>> box_share(torch.tensor([[4, 36, 0, 32]]), 48, 64)
    tensor([0.3333])
    """
    top, bottom, left, right = boxes.unbind(dim=1)
    return ((bottom - top) * (right - left)).float() / max(1, height * width)


def mix(
    images: Shaped[Tensor, "n c h w"], others: Shaped[Tensor, "n c h w"], drawn: Mix
) -> Float32[Tensor, "n c h w"]:
    """``x = m·a + (1 − m)·b`` with one mask per example, without GPU synchronization.

    Args:
        images: a, bytes or floats.
        others: b, the image that each of ``images`` is mixed with.
        drawn: parameters of the masks m, on the same device.

    Raises:
        UserError: shapes or dtypes do not match.

    >>> drawn = Mix(torch.tensor([0.25]), torch.tensor([[0, 1, 0, 2]]), torch.tensor([False]))
    >>> mix(torch.full((1, 1, 1, 2), 100), torch.full((1, 1, 1, 2), 8.0), drawn)
    tensor([[[[31., 31.]]]])
    """
    _check_shapes(images, others, *drawn)
    mixed = others.to(torch.float32, copy=True)
    height, width = images.shape[2:]
    for image, result, *part in zip(
        *(whole.split(_CHUNK) for whole in (images, mixed, *drawn)), strict=True
    ):
        result.lerp_(image.to(torch.float32), mask(Mix(*part), height, width))
    return mixed


def mix_bytes(
    images: Shaped[Tensor, "n c h w"], others: Shaped[Tensor, "n c h w"], drawn: Mix
) -> UInt8[Tensor, "n c h w"]:
    """:func:`mix`, clipped to 0 … 255 and truncated to bytes, the input of RandAugment.

    ``torch.compile`` sees a single operator, ``torch.ops.normfree.mix_bytes``. On the CPU, compiled
    kernels are used if :func:`normfree.kernels.available`.

    Args:
        images: a, bytes or floats.
        others: b, the image that each of ``images`` is mixed with.
        drawn: parameters of the masks m, on the same device.

    Raises:
        UserError: shapes or dtypes do not match, or (on the CPU) a ratio is not finite.

    >>> drawn = Mix(torch.tensor([0.25]), torch.tensor([[0, 1, 0, 2]]), torch.tensor([False]))
    >>> mix_bytes(torch.full((1, 1, 1, 2), 102.0), torch.full((1, 1, 1, 2), 8.0), drawn)
    tensor([[[[31, 31]]]], dtype=torch.uint8)
    """
    return _mix_bytes(images, others, *drawn)


def mask(drawn: Mix, height: int, width: int) -> Float32[Tensor, "n 1 h w"]:
    """The masks m: the weight of the first image inside the box, 0 outside.

    >>> drawn = Mix(torch.tensor([0.25]), torch.tensor([[1, 2, 0, 1]]), torch.tensor([True]))
    >>> mask(drawn, 2, 2)
    tensor([[[[0., 0.],
              [1., 0.]]]])
    """
    top, bottom, left, right = drawn.boxes[:, :, None].unbind(dim=1)
    row = torch.arange(height, device=top.device)
    column = torch.arange(width, device=top.device)
    weight = torch.where(drawn.cutmix, 1.0, drawn.ratio)[:, None]
    rows = ((top <= row) & (row < bottom)) * weight
    columns = (left <= column) & (column < right)
    return rows[:, None, :, None] * columns[:, None, None, :]


def _check_shapes(
    images: Tensor, others: Tensor, ratio: Tensor, boxes: Tensor, cutmix: Tensor
) -> None:
    """Check that all arguments are for the same number of images."""
    if images.ndim != 4 or images.shape != others.shape:
        raise UserError(
            "mixing takes two batches (n, c, h, w) of the same shape; "
            f"got {tuple(images.shape)} and {tuple(others.shape)}"
        )
    if images.is_complex() or others.is_complex():
        raise UserError("mixing takes bytes or floats; got complex numbers")
    n = images.shape[0]
    for name, part, dtype, shape in (
        ("ratio", ratio, torch.float32, (n,)),
        ("boxes", boxes, torch.int64, (n, 4)),
        ("cutmix", cutmix, torch.bool, (n,)),
    ):
        if part.dtype != dtype or part.shape != shape:
            raise UserError(
                f"to mix {n} images, {name} should be {dtype} {shape}; "
                f"got {part.dtype} {tuple(part.shape)}"
            )


def _check_values(
    images: Tensor, others: Tensor, ratio: Tensor, boxes: Tensor, cutmix: Tensor
) -> None:
    """Check that all ratios are finite; boxes may exceed the image or be empty."""
    # A finite sum implies finite ratios and takes one step to check.
    if not math.isfinite(ratio.sum().item()) and not ratio.isfinite().all():
        raise UserError(f"mixing ratios should be finite; got {ratio[~ratio.isfinite()][0]}")


def _empty(images: Tensor, *_: object) -> Tensor:
    return torch.empty_like(images, dtype=torch.uint8, memory_format=torch.contiguous_format)


def _by_kernel(
    images: Tensor, others: Tensor, ratio: Tensor, boxes: Tensor, cutmix: Tensor
) -> Tensor | None:
    return kernels.mix_bytes(images, others, ratio, boxes, cutmix) if images.numel() else None


def _equation(
    images: Tensor, others: Tensor, ratio: Tensor, boxes: Tensor, cutmix: Tensor
) -> Tensor:
    return to_bytes(mix(images, others, Mix(ratio, boxes, cutmix))).contiguous()


_mix_bytes = kernels.operator(
    "mix_bytes(Tensor images, Tensor others, Tensor ratio, Tensor boxes, Tensor cutmix) -> Tensor",
    kernel=_by_kernel,
    result=_empty,
    shapes=_check_shapes,
    values=_check_values,
)(_equation)
