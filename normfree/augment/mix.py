"""MixUp and CutMix: two images become one, ``x = m·a + (1 − m)·b``.

In MixUp m is the same number at every pixel; in CutMix it is 1 inside a box and 0 outside.
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

_RATIO = 0x4D495855  # "MIXU": streams far from the small numbers that a network's layers use
_PROPORTION = 0x4355544D  # "CUTM"
_CENTRE = 0x43454E54  # "CENT"

_CHUNK = 8  # examples at a time: what is temporary stays in the processor's cache


class Mix(NamedTuple):
    """How each example is mixed.

    Attributes:
        ratio: share of the first image, and weight of its label.
        boxes: top, bottom, left and right of what the first image enters, the ends excluded;
            the whole image in MixUp.
        cutmix: whether the first image fills the box, rather than tints it.
    """

    ratio: Float32[Tensor, " n"]
    boxes: Int64[Tensor, "n 4"]
    cutmix: Bool[Tensor, " n"]

    def to(self, device: str | torch.device) -> Mix:
        """The same on a device; a GPU is not waited for."""
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
    """Draw how each example is mixed: a pure function of its key.

    MixUp: ``ratio ~ Beta(α, α)``. CutMix: the centre of the box is a uniform pixel, and the share
    it leaves is ``~ Beta(α, α)``; the ratio is the exact share of what lies within the image.

    Args:
        keys: one key an example.
        cutmix: which examples get a box; the others are blended.
        height: rows of the images.
        width: columns of the images.
        mixup_alpha: α of MixUp.
        cutmix_alpha: α of CutMix; 1 is the uniform distribution.

    Raises:
        ValueError: an ``alpha`` is not a positive number.

    >>> drawn = draw_mix(torch.tensor([1, 2]), torch.tensor([False, True]), 48, 64)
    >>> drawn.ratio, drawn.boxes
    (tensor([0.7095, 0.4147]), tensor([[ 0, 48,  0, 64],
                                       [ 0, 26,  0, 49]]))

    Source: Zhang et al. (2018), *mixup*; Yun et al. (2019), *CutMix*; the numbers and the rounding
    are those of the authors' ``dataset.py``.
    """
    x, y = uniform(keys, _CENTRE, 2).unbind(dim=1)
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
    """The box of CutMix: ``[y − h, y + h) × [x − w, x + w)`` within the image.

    ``h = ⌊H·√(1 − λ)⌋ div 2``, ``w = ⌊W·√(1 − λ)⌋ div 2``: before it is cut off at the border, the
    box has about 1 − λ of the image's area.

    Args:
        x: column of the centre.
        y: row of the centre.
        proportion: λ, the share that the box leaves.
        height: H.
        width: W.

    Returns:
        Top, bottom, left and right, the ends excluded; empty boxes where λ is near 1.

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
    """Area of each box over that of the image: the weight of the label that comes with it.

    >>> box_share(torch.tensor([[4, 36, 0, 32]]), 48, 64)
    tensor([0.3333])
    """
    top, bottom, left, right = boxes.unbind(dim=1)
    return ((bottom - top) * (right - left)).float() / max(1, height * width)


def mix(
    images: Shaped[Tensor, "n c h w"], others: Shaped[Tensor, "n c h w"], drawn: Mix
) -> Float32[Tensor, "n c h w"]:
    """``x = m·a + (1 − m)·b``, with one mask for each example; nothing here waits for a GPU.

    Args:
        images: a; bytes or floats.
        others: b, what each of ``images`` is mixed with.
        drawn: the masks m, on the same device.

    Raises:
        UserError: shapes or dtypes do not fit each other.

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
    """:func:`mix`, clipped to 0 … 255, without the fractions: what RandAugment takes.

    One operator for ``torch.compile``, ``torch.ops.normfree.mix_bytes``. On a CPU compiled kernels
    do it in one step, if :func:`normfree.kernels.available`.

    Args:
        images: a; bytes or floats.
        others: b, what each of ``images`` is mixed with.
        drawn: the masks m, on the same device.

    Raises:
        UserError: shapes or dtypes do not fit each other, or (on a CPU) a ratio is not finite.

    >>> drawn = Mix(torch.tensor([0.25]), torch.tensor([[0, 1, 0, 2]]), torch.tensor([False]))
    >>> mix_bytes(torch.full((1, 1, 1, 2), 102.0), torch.full((1, 1, 1, 2), 8.0), drawn)
    tensor([[[[31, 31]]]], dtype=torch.uint8)
    """
    return _mix_bytes(images, others, *drawn)


def mask(drawn: Mix, height: int, width: int) -> Float32[Tensor, "n 1 h w"]:
    """m: the weight of the first image in the box, 0 outside.

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
    """Whether all are of as many images."""
    if images.ndim != 4 or images.shape != others.shape:
        raise UserError(
            "mixing takes two batches (n, c, h, w) of one shape; "
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
    """Whether every ratio is a number; boxes may go beyond the image, or be empty."""
    # The sum of what is not finite is not, either; looking at it is one step.
    if not math.isfinite(ratio.sum().item()) and not ratio.isfinite().all():
        raise UserError(f"ratios to mix by should be finite; got {ratio[~ratio.isfinite()][0]}")


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
