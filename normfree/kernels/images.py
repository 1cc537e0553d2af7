"""MixUp, CutMix and normalization of whole batches on the CPU."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8
from torch import Tensor

from normfree.kernels.library import library
from normfree.kernels.pointers import pointer, sizes, threads

_NANOSECONDS = 0.5  # of one thread, for an element


def mix_bytes(
    images: Shaped[Tensor, "n c h w"],
    others: Shaped[Tensor, "n c h w"],
    ratio: Float32[Tensor, " n"],
    boxes: Int64[Tensor, "n 4"],
    cutmix: Bool[Tensor, " n"],
) -> UInt8[Tensor, "n c h w"] | None:
    """``m·a + (1 − m)·b``, clipped to bytes; ``None`` if the kernel does not support the arguments.

    Args:
        images: a, bytes or float32, on the host like all arguments, in any memory layout.
        others: b, of the same dtype.
        ratio: m for MixUp.
        boxes: top, bottom (exclusive), left and right (exclusive) of the box outside which m is 0;
            cropped to the image.
        cutmix: whether m is 1 in the box instead of ``ratio``.
    """
    kernels, dtype = library(), images.dtype
    if kernels is None or dtype not in (torch.uint8, torch.float32) or others.dtype != dtype:
        return None
    shape, n = images.shape, len(images)
    result = torch.empty(shape, dtype=torch.uint8)
    both = (images.contiguous(), others.contiguous())
    drawn = (ratio.contiguous(), boxes.contiguous(), cutmix.contiguous())
    kernels.normfree_mix_bytes(
        pointer("images", both[0], dtype, shape),
        pointer("others", both[1], dtype, shape),
        pointer("result", result, torch.uint8, shape),
        *sizes(images),
        ctypes.c_int64(dtype == torch.float32),
        pointer("ratio", drawn[0], torch.float32, [n]),
        pointer("boxes", drawn[1], torch.int64, [n, 4]),
        pointer("cutmix", drawn[2], torch.bool, [n]),
        threads(_NANOSECONDS * images.numel()),
    )
    return result


def normalize(
    images: UInt8[Tensor, "n c h w"], mean: Float32[Tensor, " c"], std: Float32[Tensor, " c"]
) -> Float32[Tensor, "n c h w"] | None:
    """``(x − mean) / std`` per channel; ``None`` if the kernel does not support the arguments.

    Args:
        images: contiguous images, on the host like all arguments.
        mean: one value per channel.
        std: one value per channel.
    """
    kernels, channels = library(), images.shape[1]
    if (
        kernels is None
        or images.dtype != torch.uint8
        or not images.is_contiguous()
        or len(mean) != channels
        or len(std) != channels
    ):
        return None
    result = torch.empty(images.shape, dtype=torch.float32)
    scale = (mean.contiguous(), std.contiguous())
    kernels.normfree_normalize(
        pointer("images", images, torch.uint8, images.shape),
        pointer("result", result, torch.float32, images.shape),
        *sizes(images),
        pointer("mean", scale[0], torch.float32, [channels]),
        pointer("std", scale[1], torch.float32, [channels]),
        threads(_NANOSECONDS * images.numel()),
    )
    return result
