"""From grey levels to what a network takes in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from normfree.augment import native

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean of ImageNet's red, green and blue, in grey levels of 0 to 255."""

IMAGENET_STD = (58.395, 57.12, 57.375)
"""Standard deviation of ImageNet's red, green and blue, in grey levels of 0 to 255."""

_CHUNK = 1 << 17  # elements at a time, on a CPU: they stay in its cache from step to step


def normalize(
    images: Shaped[Tensor, "n c h w"],
    mean: Sequence[float] | Float[Tensor, " c"],
    std: Sequence[float] | Float[Tensor, " c"],
) -> Float[Tensor, "n c h w"]:
    """``(x − mean) / std``, channel by channel.

    Args:
        images: grey levels, 0 to 255; bytes or floats.
        mean: one value a channel, in grey levels; as a tensor on the images' device, no step waits
            for its upload.
        std: one value a channel, in grey levels.

    Returns:
        Floats: float32 for bytes, otherwise the dtype of ``images``.

    >>> normalize(torch.full((1, 1, 1, 2), 250, dtype=torch.uint8), mean=[50.0], std=[100.0])
    tensor([[[[2., 2.]]]])
    """
    dtype = images.dtype if images.is_floating_point() else torch.float32
    center = torch.as_tensor(mean, dtype=dtype, device=images.device).view(-1, 1, 1)
    spread = torch.as_tensor(std, dtype=dtype, device=images.device).view(-1, 1, 1)
    if images.device.type != "cpu":
        return (images.to(dtype) - center) / spread
    one_each = len(center) == len(spread) == images.shape[1]
    if images.dtype == torch.uint8 and images.is_contiguous() and one_each and native.available():
        return native.normalize(images, center, spread)
    result = torch.empty_like(images, dtype=dtype)
    length = max(1, _CHUNK // max(1, images[:1].numel()))
    for out, part in zip(result.split(length), images.split(length), strict=True):
        out.copy_(part).sub_(center).div_(spread)
    return result
