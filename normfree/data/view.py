"""Views: what a transform makes of an image, decided from the image's size alone.

So only the part of an image that a view shows needs to be decoded, and its pixels go straight to
their place in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from normfree.data.resize import Resize, Taps, resample, resize_taps
from normfree.kernels.resize import Axis

PixelType: TypeAlias = Literal["float32", "uint8"]
"""``uint8`` is rounded to the nearest and clipped; bicubic ``float32`` may leave [0, 255]."""


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


@runtime_checkable
class Regions(Protocol):
    """An image of known size, whose pixels are read in parts."""

    @property
    def height(self) -> int:
        """Height in pixels."""
        ...

    @property
    def width(self) -> int:
        """Width in pixels."""
        ...

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for RGB."""
        ...

    def region(self, box: Box) -> UInt8[np.ndarray, "h w c"]:
        """The pixels in a box.

        Raises:
            BadImageError: they cannot be decoded.
        """
        ...


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image in memory.

    Args:
        array: its pixels.

    >>> Pixels(np.zeros((4, 6, 3), dtype=np.uint8)).region(Box(1, 2, 3, 4)).shape
    (3, 4, 3)
    """

    array: UInt8[np.ndarray, "h w c"]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.array.shape[0]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.array.shape[1]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.array.shape[2]

    def region(self, box: Box) -> UInt8[np.ndarray, "h w c"]:
        """The pixels in a box."""
        top, left, height, width = box
        return self.array[top : top + height, left : left + width]


@dataclass(frozen=True)
class View:
    """A box of an image, resized; or a window of that, without computing the rest.

    Args:
        box: part of the image to resize.
        height: of the resized box, pixels.
        width: of the resized box, pixels.
        window: rows and columns of the resized box; all by default.
        mirror: whether to flip the box horizontally before resizing.
        resize: the filter.

    >>> view = View(Box(0, 0, 375, 500), 224, 224, window=(slice(16, 208), slice(16, 208)))
    >>> view.needed
    Box(top=26, left=35, height=323, width=430)
    """

    box: Box
    height: int
    width: int
    window: tuple[slice, slice] = (slice(None), slice(None))
    mirror: bool = False
    resize: Resize = "tensorflow"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        rows, columns = self.axes
        return len(rows.inputs), len(columns.inputs)

    @property
    def needed(self) -> Box:
        """The part of the image that the result depends on."""
        (top, bottom), (left, right) = (axis.ends() for axis in self.axes)
        return Box(top, left, bottom - top, right - left)

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        """The taps of rows and columns, in pixels of the whole image."""
        top, left, height, width = self.box
        rows = _windowed(resize_taps(height, self.height, self.resize), self.window[0])
        columns = _windowed(resize_taps(width, self.width, self.resize), self.window[1])
        if self.mirror:
            return Axis(*rows, top), Axis(*columns, left + width - 1, -1)
        return Axis(*rows, top), Axis(*columns, left)


def _windowed(taps: Taps, window: slice) -> Taps:
    return Taps(taps.inputs[window], taps.weights[window])


def render(
    image: Regions,
    view: View,
    out: Float32[np.ndarray, "c h w"] | UInt8[np.ndarray, "c h w"] | None = None,
    dtype: PixelType = "float32",
) -> Float32[np.ndarray, "c h w"] | UInt8[np.ndarray, "c h w"]:
    """The pixels of a view.

    Args:
        image: the image.
        view: what to show of it.
        out: contiguous memory for the result; new by default.
        dtype: of the result, if ``out`` is not given.

    >>> render(Pixels(np.zeros((4, 6, 3), dtype=np.uint8)), View(Box(0, 0, 4, 6), 8, 9)).shape
    (3, 8, 9)
    """
    rows, columns = view.axes
    needed = view.needed
    pixels = image.region(needed)
    if out is None:
        out = np.empty((pixels.shape[2], len(rows.inputs), len(columns.inputs)), dtype=dtype)
    rows = rows._replace(origin=rows.origin - needed.top)
    columns = columns._replace(origin=columns.origin - needed.left)
    resample(pixels, rows, columns, out)
    return out
