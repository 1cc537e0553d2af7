"""RandAugment on the CPU: all operations of an image are applied while it is in the cache."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int32, Int64, UInt8
from torch import Tensor

from normfree.kernels.library import library
from normfree.kernels.pointers import pointer, sizes, threads

_NANOSECONDS = 0.5  # of one thread, for an element and a layer
_RUN = 8  # minimum average run length for copying runs instead of single pixels
_MOST = 1 << 30  # so that sums fit into 32 bits
_FAILURES = {1: "RandAugment ran out of memory", 2: "a code stands for no operation"}


class Call(NamedTuple):
    """An operation at one strength, as passed to the C functions.

    Attributes:
        kernel: name of the C function, or ``"move"``.
        number: integer argument, if the function takes one.
        factor: float argument, if the function takes one.
        places: for ``"move"``, the input pixel of each output pixel; the number of pixels means
            outside the image.
    """

    kernel: str
    number: int = 0
    factor: float = 0.0
    places: Int64[Tensor, " pixels"] | None = None


class _Operation(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int32),
        ("number", ctypes.c_int32),
        ("factor", ctypes.c_float),
        ("list", ctypes.c_void_p),
    )


class Operations:
    """The table that maps codes of :func:`randaugment` to operations.

    Args:
        calls: one call per code; ``None`` if the code has no effect.
        pixels: number of pixels in an image.
    """

    def __init__(self, calls: Sequence[Call | None], pixels: int) -> None:
        self.pixels = pixels
        self._lists: list[Tensor] = []  # keeps alive the data that the structures point to
        self.structures = (_Operation * len(calls))()
        for structure, call in zip(self.structures, calls, strict=True):
            structure.kind = -1
            if call is not None:
                kernel = call.kernel
                if call.places is not None:
                    kernel = self._move(structure, call.places)
                else:
                    structure.number = max(-_MOST, min(call.number, _MOST))
                    structure.factor = call.factor
                structure.kind = _kinds()[kernel]

    def _move(self, structure: _Operation, places: Int64[Tensor, " pixels"]) -> str:
        """Set the pointer to runs or places; return the name of the kernel that reads it."""
        if places.shape != (self.pixels,) or not 0 <= places.min() <= places.max() <= self.pixels:
            raise ValueError(f"places should be {self.pixels} integers from 0 to {self.pixels}")
        list_, kernel = places.to(torch.int32, copy=True), "move_pixels"
        runs = _runs(list_)
        if 0 < len(runs) * _RUN <= self.pixels:
            list_, kernel, structure.number = runs, "move_runs", len(runs)
        self._lists.append(list_)
        structure.list = list_.data_ptr()
        return kernel


def randaugment(
    images: UInt8[Tensor, "n c h w"],
    operations: Operations,
    codes: Int64[Tensor, "layers n"],
    rows: Int64[Tensor, "layers n"],
    columns: Int64[Tensor, "layers n"],
) -> UInt8[Tensor, "n c h w"]:
    """Apply the operations of each image in sequence.

    Args:
        images: on the host like all arguments, in any memory layout, with at least one pixel.
        operations: operations for images of this size.
        codes: code of each image's operation in each layer.
        rows: row of each center for Cutout.
        columns: column of each center for Cutout.

    Raises:
        ValueError: an argument has the wrong shape or dtype, or a code stands for no operation.
        MemoryError: there is not enough memory for a copy of an image.
    """
    kernels = library()
    assert kernels is not None
    shape, of_layers = images.shape, (len(codes), len(images))
    if operations.pixels != shape[2] * shape[3]:
        raise ValueError(f"the operations are for images of {operations.pixels} pixels")
    images = images.contiguous()
    result = torch.empty(shape, dtype=torch.uint8)
    failed = kernels.normfree_randaugment(
        pointer("images", images, torch.uint8, shape),
        pointer("result", result, torch.uint8, shape),
        *sizes(images),
        operations.structures,
        ctypes.c_int64(len(operations.structures)),
        ctypes.c_int64(len(codes)),
        pointer("codes", codes, torch.int64, of_layers),
        pointer("rows", rows, torch.int64, of_layers),
        pointer("columns", columns, torch.int64, of_layers),
        threads(_NANOSECONDS * len(codes) * images.numel()),
    )
    if failed:
        raise (MemoryError if failed == 1 else ValueError)(_FAILURES[failed])
    return result


@cache
def _kinds() -> dict[str, int]:
    """The number of each C function, by name, as listed by the library."""
    kernels = library()
    assert kernels is not None
    names = kernels.normfree_operations().decode().split()
    return {name: kind for kind, name in enumerate(names)}


def _runs(places: Int32[Tensor, " pixels"]) -> Int32[Tensor, "runs 3"]:
    """Runs of pixels with consecutive sources: first position, first source position, length.

    >>> _runs(torch.tensor([2, 3, 4, 0, 4], dtype=torch.int32))  # 5 pixels, so 5 is outside
    tensor([[0, 2, 3],
            [3, 0, 1],
            [4, 4, 1]], dtype=torch.int32)
    """
    sources = places.numpy()
    (inside,) = np.nonzero(sources < len(sources))
    steps = (np.diff(inside) != 1) | (np.diff(sources[inside]) != 1)
    bounds = np.flatnonzero(np.concatenate([[True], steps, [True]])) if len(inside) else [0]
    first = inside[bounds[:-1]]
    runs = np.stack([first, sources[first], np.diff(bounds)], axis=1)
    return torch.from_numpy(runs.astype(np.int32))
