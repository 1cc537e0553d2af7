"""Whether Triton's kernels can be launched, and on which tensors."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from normfree.kernels.library import VARIABLE

_PLAIN = frozenset((Tensor, nn.Parameter))  # others, such as fake tensors, may have no memory


def available() -> bool:
    """Whether Triton is installed, and the environment variable ``NORMFREE_KERNELS`` is not 0.

    >>> available() in (True, False)
    True
    """
    return os.environ.get(VARIABLE) != "0" and _installed()


def interpreted() -> bool:
    """Whether Triton runs kernels in Python, on the host."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def launchable(*tensors: Tensor, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> bool:
    """Whether tensors are on one GPU, without gaps, in the same order, with rows outermost.

    >>> launchable(torch.zeros(2, 3, device="meta"))
    False
    """
    device = tensors[0].device
    if device.type != ("cpu" if interpreted() else "cuda") or not available():
        return False
    for x in tensors:
        if type(x) not in _PLAIN or x.dtype not in dtypes or x.device != device:
            return False
        if x.layout != torch.strided or x.is_neg():
            return False
    return all(x.is_contiguous() for x in tensors) or (
        tensors[0].ndim == 4
        and all(x.is_contiguous(memory_format=torch.channels_last) for x in tensors)
    )


def block_of(size: int, largest: int) -> int:
    """A power of two that covers a row of ``size`` elements, or the largest to go in.

    >>> block_of(27, 4096), block_of(1024, 4096), block_of(4608, 4096)
    (32, 1024, 4096)
    """
    return min(largest, 1 << max(size - 1, 0).bit_length())


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
