"""Normalization of gray levels to network inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from normfree import kernels
from normfree.errors import UserError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean of the red, green and blue channels of ImageNet, in gray levels from 0 to 255."""

IMAGENET_STD = (58.395, 57.12, 57.375)
"""Standard deviation of the ImageNet channels, in gray levels from 0 to 255."""

_CHUNK = 1 << 17  # elements at a time on the CPU, so that they stay in its cache between steps


def normalize(
    images: Shaped[Tensor, "n c h w"],
    mean: Sequence[float] | Float[Tensor, " c"],
    std: Sequence[float] | Float[Tensor, " c"],
) -> Float[Tensor, "n c h w"]:
    """``(x − mean) / std`` for each channel.

    For bytes, ``torch.compile`` sees a single operator, ``torch.ops.normfree.normalize``. On the
    CPU, a compiled kernel is used if :func:`normfree.kernels.available`.

    Args:
        images: gray levels from 0 to 255, bytes or floats.
        mean: one value per channel, in gray levels; a tensor on the images' device avoids an upload
            in every step.
        std: one value per channel, in gray levels.

    Returns:
        Floats: float32 for bytes, otherwise the dtype of ``images``.

    Raises:
        UserError: ``mean`` or ``std`` has the wrong number of values.

    >>> normalize(torch.full((1, 1, 1, 2), 250, dtype=torch.uint8), mean=[50.0], std=[100.0])
    tensor([[[[2., 2.]]]])
    """
    dtype = images.dtype if images.is_floating_point() else torch.float32
    center = torch.as_tensor(mean, dtype=dtype, device=images.device)
    spread = torch.as_tensor(std, dtype=dtype, device=images.device)
    if images.dtype == torch.uint8:
        return _normalize_bytes(images, center, spread)
    _check_shapes(images, center, spread)
    return _equation(images, center, spread)


def _equation(
    images: Shaped[Tensor, "n c h w"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]
) -> Float[Tensor, "n c h w"]:
    center, spread = mean.view(-1, 1, 1), std.view(-1, 1, 1)
    if images.device.type != "cpu":
        return (images.to(mean.dtype) - center) / spread
    result = torch.empty_like(images, dtype=mean.dtype)
    length = max(1, _CHUNK // max(1, images[:1].numel()))
    for out, part in zip(result.split(length), images.split(length), strict=True):
        out.copy_(part).sub_(center).div_(spread)
    return result


def _check_shapes(images: Tensor, mean: Tensor, std: Tensor) -> None:
    """Check that there is one value per channel, or one for all channels."""
    if images.ndim != 4:
        raise UserError(f"images to normalize should be (n, c, h, w); got {tuple(images.shape)}")
    for name, values in (("mean", mean), ("std", std)):
        if values.ndim != 1 or values.shape[0] not in (1, images.shape[1]):
            raise UserError(
                f"{name} should have a value for each of {images.shape[1]} channels, or one; "
                f"got {tuple(values.shape)}"
            )
        if values.dtype != (images.dtype if images.is_floating_point() else torch.float32):
            raise UserError(f"{name} should be float32 for bytes; got {values.dtype}")


def _by_kernel(images: Tensor, mean: Tensor, std: Tensor) -> Tensor | None:
    return kernels.normalize(images, mean, std) if images.numel() else None


_normalize_bytes = kernels.operator(
    "normalize(Tensor images, Tensor mean, Tensor std) -> Tensor",
    kernel=_by_kernel,
    result=lambda images, mean, std: torch.empty_like(images, dtype=mean.dtype),
    shapes=_check_shapes,
)(_equation)
