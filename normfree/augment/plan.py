"""RandAugment plans: the operations for each image, drawn on the host and applied on any device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from normfree.errors import UserError


class Group(NamedTuple):
    """The images in one layer that get the same operation with the same sign.

    Attributes:
        operation: name of the operation.
        sign: 1 or −1; 1 for operations without a sign.
        start: index of the first image, in the order of the layer.
        stop: index after the last image.
    """

    operation: str
    sign: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """The operations that will be applied to each image of a batch.

    Attributes:
        height: height of the images, pixels.
        width: width of the images, pixels.
        codes: code of each image's operation, sorted within a layer: twice the index of the
            operation, plus 1 for a negative sign. Always on the host, where the work is planned.
        places: for each layer, the indices of the images in the order of the codes, and the row and
            column of the center that Cutout uses for each image.
        operations: names of the operations, by index.
    """

    height: int
    width: int
    codes: Int64[Tensor, "layers n"]
    places: Int64[Tensor, "layers 3 n"]
    operations: tuple[str, ...]

    @property
    def groups(self) -> list[list[Group]]:
        """The runs of images with the same operation, for each layer.

        >>> codes, places = torch.tensor([[0, 0, 7]]), torch.tensor([[[2, 0, 1], [0] * 3, [0] * 3]])
        >>> Plan(1, 1, codes, places, ("Invert", "Color", "Cutout", "Rotate")).groups
        [[Group(operation='Invert', sign=1, start=0, stop=2),
          Group(operation='Rotate', sign=-1, start=2, stop=3)]]
        """
        return [
            [Group(self.operations[code // 2], 1 - 2 * (code % 2), *run) for code, *run in layer]
            for layer in runs(self.codes)
        ]

    def to(self, device: torch.device | str) -> Plan:
        """Copy the places to a device without synchronization.

        Raises:
            UserError: the places are invalid. They are checked here, because reading them on
                another device would need synchronization.
        """
        places = self.places
        if places.device.type == "cpu":
            check_values(self.codes, places, self.height, self.width, len(self.operations))
        if torch.device(device).type == "cuda":
            places = places.pin_memory()
        return replace(self, places=places.to(device, non_blocking=True))


def runs(codes: Int64[Tensor, "layers n"]) -> list[list[tuple[int, int, int]]]:
    """The runs of equal codes in each layer: code, first position, position after the last.

    >>> runs(torch.tensor([[3, 3, 5]]))
    [[(3, 0, 2), (5, 2, 3)]]
    """
    found = []
    for layer in codes.tolist():
        starts = [i for i in range(len(layer)) if i == 0 or layer[i] != layer[i - 1]]
        stops = [*starts[1:], len(layer)]
        found.append([(layer[i], i, j) for i, j in zip(starts, stops, strict=bool(layer))])
    return found


def check_shapes(images: Shaped[Tensor, "n c h w"], codes: Tensor, places: Tensor) -> None:
    """Check that the shapes and dtypes of a plan match the images, without reading values.

    Raises:
        UserError: they do not match.
    """
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise UserError(
            "RandAugment takes bytes (n, c, h, w); "
            f"got {images.dtype} of {tuple(images.shape)}: use to_bytes"
        )
    n = images.shape[0]
    if codes.ndim != 2 or codes.shape[1] != n or codes.dtype != torch.int64:
        raise UserError(
            f"a plan's codes are int64 (layers, {n}); got {codes.dtype} {tuple(codes.shape)}"
        )
    if places.shape != (codes.shape[0], 3, n) or places.dtype != torch.int64:
        raise UserError(
            f"a plan's places are int64 (layers, 3, {n}); got {places.dtype} {tuple(places.shape)}"
        )


def check_values(
    codes: Int64[Tensor, "layers n"],
    places: Int64[Tensor, "layers 3 n"],
    height: int,
    width: int,
    operations: int,
) -> None:
    """Check that each layer has every image once, valid codes, and pixels inside the image.

    Raises:
        UserError: the plan is invalid.
    """
    if not codes.numel():
        return
    # Compared as unsigned numbers, negative values exceed every bound.
    code = codes.numpy().view(np.uint64).max()
    _, row, column = places.numpy().view(np.uint64).max(axis=(0, 2))
    for what, highest, count in (
        ("codes", code, 2 * operations),
        ("rows", row, max(1, height)),
        ("columns", column, max(1, width)),
    ):
        if highest >= count:
            found = highest.view(np.int64)
            raise UserError(f"a plan's {what} should be from 0 to {count - 1}; one is {found}")
    order = places.numpy()[:, 0]
    if (np.sort(order, axis=1) != np.arange(order.shape[1])).any():
        raise UserError("a plan's places should have each image once in every layer")
