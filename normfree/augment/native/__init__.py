"""Mixing and RandAugment on a CPU by compiled kernels: the bytes of PyTorch's operations, sooner.

PyTorch's operations remain what runs on GPUs, and what the kernels are tested against.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64, Shaped, UInt8
from torch import Tensor

from normfree.augment.geometry import MOVES, source_pixels
from normfree.augment.native.build import available, library

__all__ = ["Operations", "available", "mix_bytes", "normalize", "randaugment"]

_RUN = 8  # pixels that move together on average, from which on runs are copied as such


class _Operation(ctypes.Structure):
    _fields_ = (
        ("active", ctypes.c_int32),
        ("number", ctypes.c_int32),
        ("factor", ctypes.c_float),
        ("list", ctypes.c_void_p),
    )


class Operations:
    """What the kernel needs to know of the operations of one strength, for images of one size.

    Args:
        steps: the name and, if it has one, the argument of each operation in RandAugment's order,
            first for the sign 1 and then for −1; ``None`` where it does nothing.
        height: of the images, pixels.
        width: of the images, pixels.
        quirks: whether Contrast has the authors' grey level.
    """

    def __init__(
        self,
        steps: Sequence[tuple[str, float | None] | None],
        height: int,
        width: int,
        *,
        quirks: bool,
    ) -> None:
        self.active = [step is not None for step in steps]
        self._lists: list[Tensor] = []  # what the structures point to
        self.structures = (_Operation * len(steps))()
        for structure, step in zip(self.structures, steps, strict=True):
            if step is not None:
                self._describe(structure, *step, height, width)
                if step[0] == "Contrast":
                    structure.number = quirks

    def _describe(
        self, structure: _Operation, name: str, argument: float | None, height: int, width: int
    ) -> None:
        structure.active = 1
        if argument is None:
            return
        if name in MOVES:
            places = source_pixels(name, argument, height, width).int()
            runs = _runs(places)
            if 0 < len(runs) * _RUN <= height * width:
                places, structure.number = runs, len(runs)
            self._lists.append(places)
            structure.list = places.data_ptr()
        elif isinstance(argument, int):
            structure.number = min(argument, 1 << 30)
        else:
            structure.factor = argument


def randaugment(
    images: UInt8[Tensor, "n c h w"],
    operations: Operations,
    codes: Int64[Tensor, "layers n"],
    rows: Int64[Tensor, "layers n"],
    columns: Int64[Tensor, "layers n"],
) -> UInt8[Tensor, "n c h w"]:
    """Each image's operations, one after the other.

    Args:
        images: on the host, like all of these; in any order in memory.
        operations: for images of this size.
        codes: which of the operations each image meets.
        rows: of the centres of Cutout's squares.
        columns: of the centres of Cutout's squares.
    """
    kernels = library()
    assert kernels is not None
    images = images.contiguous()
    places = [_of(torch.int64, x) for x in (codes, rows, columns)]
    result = torch.empty_like(images)
    failed = kernels.randaugment(
        *_pointers(images, result),
        *map(ctypes.c_int64, images.shape),
        operations.structures,
        ctypes.c_int64(len(codes)),
        *_pointers(*places),
        ctypes.c_int64(torch.get_num_threads()),
    )
    if failed:
        raise MemoryError("there is no memory for RandAugment")
    return result


def mix_bytes(
    images: Shaped[Tensor, "n c h w"],
    others: Shaped[Tensor, "n c h w"],
    ratio: Float32[Tensor, " n"],
    boxes: Int64[Tensor, "n 4"],
    cutmix: Bool[Tensor, " n"],
) -> UInt8[Tensor, "n c h w"]:
    """MixUp and CutMix, clipped to bytes.

    Args:
        images: what enters the boxes; bytes or float32, on the host like all of these.
        others: what each is mixed with; of the same dtype.
        ratio: as in :class:`normfree.augment.Mix`.
        boxes: as there.
        cutmix: as there.
    """
    kernels = library()
    assert kernels is not None
    both = (images.contiguous(), others.contiguous())
    draws = (_of(torch.float32, ratio), _of(torch.int64, boxes), _of(torch.bool, cutmix))
    result = torch.empty_like(both[0], dtype=torch.uint8)
    kernels.mix_bytes(
        *_pointers(*both, result),
        *map(ctypes.c_int64, images.shape),
        ctypes.c_int64(images.dtype == torch.float32),
        *_pointers(*draws),
        ctypes.c_int64(torch.get_num_threads()),
    )
    return result


def normalize(
    images: UInt8[Tensor, "n c h w"], mean: Float32[Tensor, " c"], std: Float32[Tensor, " c"]
) -> Float32[Tensor, "n c h w"]:
    """``(x − mean) / std``, channel by channel.

    Args:
        images: on the host, like all of these; contiguous.
        mean: one value a channel.
        std: one value a channel.
    """
    kernels = library()
    assert kernels is not None
    result = torch.empty_like(images, dtype=torch.float32)
    scale = (_of(torch.float32, mean), _of(torch.float32, std))
    kernels.normalize(
        *_pointers(images, result),
        *map(ctypes.c_int64, images.shape),
        *_pointers(*scale),
        ctypes.c_int64(torch.get_num_threads()),
    )
    return result


def _of(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """As a kernel reads it."""
    return tensor.to("cpu", dtype).contiguous()


def _pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


def _runs(places: Int32[Tensor, " pixels"]) -> Int32[Tensor, "runs 3"]:
    """Pixels that come from consecutive ones: the first's place, its source's place, their number.

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
