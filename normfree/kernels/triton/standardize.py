"""Launch the kernels of weight standardization."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from normfree.kernels.triton.launch import block_of, launchable

_HALF_TOO = (torch.float32, torch.bfloat16, torch.float16)

#: Elements that a program holds at a time: all of a row, in every network of the package but few.
BLOCK = 4096


def standardize(
    weight: Float[Tensor, "o *fan"],
    gain: Float[Tensor, " o"],
    eps: float,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "o *fan"] | None:
    """Standardized weights in the memory format of ``weight``; ``None`` if there is no kernel.

    Args:
        weight: rows on the GPU; contiguous, or filters whose channels come last.
        gain: factor of each row.
        eps: lower bound on a row's sum of squares around the mean.
        dtype: of the result, for example ``torch.bfloat16`` for a convolution under autocast; None
            for that of ``weight``. The arithmetic is that of float32.
    """
    if not launchable(weight, dtypes=_HALF_TOO) or not launchable(gain, dtypes=_HALF_TOO):
        return None
    from normfree.kernels.triton import jit_standardize

    result, fan_in = torch.empty_like(weight, dtype=dtype), math.prod(weight.shape[1:])
    if weight.numel():
        block = block_of(fan_in, BLOCK)
        jit_standardize.forward[(len(weight),)](
            weight, gain, result, fan_in, eps, block=block, num_warps=_warps(block)
        )
    return result


def standardize_backward(
    grad: Float[Tensor, "o *fan"],
    weight: Float[Tensor, "o *fan"],
    gain: Float[Tensor, " o"],
    eps: float,
) -> tuple[Float[Tensor, "o *fan"], Float[Tensor, " o"]] | None:
    """The gradients of ``weight`` and ``gain``; ``None`` if there is no kernel.

    Args:
        grad: gradient of the standardized weight, in any memory format; float32, or half precision
            as the result of :func:`standardize` was.
        weight: as in :func:`standardize`.
        gain: as in :func:`standardize`.
        eps: as in :func:`standardize`.
    """
    if not launchable(weight, dtypes=_HALF_TOO) or not launchable(gain, dtypes=_HALF_TOO):
        return None
    if not launchable(weight, grad, dtypes=_HALF_TOO):
        grad = torch.empty_like(weight, dtype=grad.dtype).copy_(grad)
    from normfree.kernels.triton import jit_standardize

    weight_grad, gain_grad = torch.empty_like(weight), torch.zeros_like(gain)
    if weight.numel():
        fan_in = math.prod(weight.shape[1:])
        block = block_of(fan_in, BLOCK)
        jit_standardize.backward[(len(weight),)](
            *(grad, weight, gain, weight_grad, gain_grad, fan_in, eps),
            block=block,
            num_warps=_warps(block),
        )
    return weight_grad, gain_grad


def _warps(block: int) -> int:
    """Groups of 32 threads for a program: each thread holds 8 to 16 elements of a long row."""
    return min(8, max(1, block // 256))
