"""How tensors reach a C function: checked first, for C trusts every pointer."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor


def pointer(name: str, tensor: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> ctypes.c_void_p:
    """The address of a tensor's first element, if a C function may read it as such.

    Args:
        name: of the argument, for the error.
        tensor: on the host and contiguous.
        dtype: what the C function reads.
        shape: how much of it.

    Raises:
        ValueError: the tensor is something else.

    >>> pointer("means", torch.zeros(2), torch.float32, [3])
    Traceback (most recent call last):
    ValueError: means should be contiguous torch.float32 (3) on the CPU; got torch.float32 (2)
    """
    if (
        tensor.device.type != "cpu"
        or tensor.dtype != dtype
        or tensor.shape != torch.Size(shape)
        or not tensor.is_contiguous()
        or tensor.is_conj()
        or tensor.is_neg()
    ):
        expected = f"contiguous {dtype} ({', '.join(map(str, shape))}) on the CPU"
        layout = "" if tensor.is_contiguous() else " with gaps"
        found = f"{tensor.dtype} ({', '.join(map(str, tensor.shape))}){layout}"
        found += "" if tensor.device.type == "cpu" else f" on {tensor.device}"
        raise ValueError(f"{name} should be {expected}; got {found}")
    return ctypes.c_void_p(tensor.data_ptr())


def sizes(images: Tensor) -> list[ctypes.c_int64]:
    """n, channels, height and width, as C functions take them."""
    n, channels, height, width = images.shape
    return [ctypes.c_int64(size) for size in (n, channels, height, width)]


def threads() -> ctypes.c_int64:
    """As many as PyTorch uses."""
    return ctypes.c_int64(torch.get_num_threads())
