"""RandAugment's Cutout: a gray square in each image."""

from __future__ import annotations

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from normfree.augment.levels import FILL
from normfree.augment.registry import operation


@operation(
    "Cutout",
    authors=lambda level: int(level.share * 40),
    neutral=0,
    centered=True,
    kernel="cutout",
)
def cutout(
    images: UInt8[Tensor, "n c h w"],
    rows: Int64[Tensor, " n"],
    columns: Int64[Tensor, " n"],
    pad: int,
) -> UInt8[Tensor, "n c h w"]:
    """Draw a gray square of side ``2·pad`` in each image, cropped at the image edges.

    Args:
        images: bytes.
        rows: row of each center; a square covers the rows ``row − pad … row + pad − 1``.
        columns: column of each center.
        pad: half the side length, pixels.

    >>> image = torch.zeros(1, 1, 1, 6, dtype=torch.uint8)
    >>> cutout(image, torch.tensor([0]), torch.tensor([4]), pad=1)
    tensor([[[[  0,   0,   0, 128, 128,   0]]]], dtype=torch.uint8)
    """
    height, width = images.shape[2:]
    inside_rows, inside_columns = _within(rows, height, pad), _within(columns, width, pad)
    square = inside_rows[:, None, :, None] & inside_columns[:, None, None]
    return (images & ~square).bitwise_or_(square & FILL)


def _within(centers: Int64[Tensor, " n"], length: int, pad: int) -> UInt8[Tensor, "n length"]:
    """255 from ``center − pad`` to ``center + pad − 1``, 0 elsewhere."""
    middles = torch.arange(1, 2 * length, 2, device=centers.device)  # twice the pixel centers
    return ((middles - 2 * centers[:, None]).abs_() < 2 * pad).to(torch.uint8).mul_(255)
