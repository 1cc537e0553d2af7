"""Random crop of small images: pad, crop at a random position, and flip whole batches."""

from __future__ import annotations

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from normfree.random import uniform

_STREAM = 0x53484946  # "SHIF": far from the small stream numbers of network layers


def shift(
    images: Shaped[Tensor, "n c h w"], keys: Int[Tensor, " n"], padding: int, *, flip: bool = False
) -> Shaped[Tensor, "n c h w"]:
    """Shift each image by up to ``padding`` pixels, and flip half of them horizontally.

    This is a pure function of each image and its key. The result does not depend on the rest of the
    batch, the device or the number of workers.

    Args:
        images: images of any dtype, on any device.
        keys: one key per image, on the same device.
        padding: largest shift along each axis, pixels; zeros fill the border.
        flip: whether to flip horizontally with probability ½.

    >>> images = torch.arange(1, 5, dtype=torch.uint8).view(1, 1, 2, 2)
    >>> shift(images, torch.tensor([5]), padding=1)
    tensor([[[[0, 0],
              [2, 0]]]], dtype=torch.uint8)

    Source: the usual augmentation for CIFAR, for example He et al. (2015), section 4.2.
    """
    n, c, height, width = images.shape
    down, right, mirror = uniform(keys, _STREAM, 3).unbind(dim=1)
    places = 2 * padding + 1
    rows = _span((down * places).long(), height)
    columns = _span((right * places).long(), width)
    if flip:
        columns = torch.where((mirror < 0.5)[:, None], columns.flip(1), columns)
    padded = F.pad(images, (padding,) * 4)
    pixels = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    pixels = pixels.flatten(1)[:, None].expand(n, c, height * width)
    return padded.flatten(2).gather(2, pixels).view(n, c, height, width)


def _span(first: Int[Tensor, " n"], length: int) -> Int[Tensor, "n length"]:
    return first[:, None] + torch.arange(length, device=first.device)
