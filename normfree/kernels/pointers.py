"""Passing tensors to C functions, with checks because C trusts every pointer."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from normfree.kernels.library import library


def pointer(name: str, tensor: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> ctypes.c_void_p:
    """The address of a tensor's data, after checking that a C function can read it.

    Args:
        name: name of the argument, for the error message.
        tensor: a contiguous tensor on the host.
        dtype: data type that the C function reads.
        shape: shape that the C function reads.

    Raises:
        ValueError: the tensor does not match.

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
    """The batch size, channels, height and width as C arguments."""
    n, channels, height, width = images.shape
    return [ctypes.c_int64(size) for size in (n, channels, height, width)]


#: Nanoseconds of work that pay for a thread. Waking it and waiting for it takes up to about as long
#: on virtual machines, where a thread that waits by spinning is interrupted by the host.
WORTH_A_THREAD = 50_000


def threads(nanoseconds: float) -> ctypes.c_int64:
    """The number of threads for some work: at most as many as PyTorch uses.

    Args:
        nanoseconds: about how long one thread takes.

    >>> threads(1000.0)
    c_long(1)
    """
    paid = int(nanoseconds // WORTH_A_THREAD)
    return ctypes.c_int64(max(1, min(torch.get_num_threads(), paid)))


def ask_for_huge_pages(tensor: Tensor) -> None:
    """Map the memory of a new tensor in huge pages, where the system can.

    Otherwise page faults cost as much time as decoding what is written to it.

    Args:
        tensor: contiguous and on the host.

    >>> ask_for_huge_pages(torch.empty(2, 3))
    """
    kernels = library()
    if kernels is not None:
        kernels.normfree_ask_for_huge_pages(
            ctypes.c_void_p(tensor.data_ptr()), ctypes.c_int64(tensor.nbytes)
        )
