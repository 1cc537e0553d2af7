"""What a source of labelled images is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

Split: TypeAlias = Literal["train", "val", "test"]
"""``val`` is the split that selects weights; ``test``, where there is one, selects nothing."""


@runtime_checkable
class Source(Protocol):
    """Labelled images, numbered from 0."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is an index into them."""
        ...

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The label of every image, int64."""
        ...

    @property
    def channels(self) -> int:
        """1 for grey, 3 for color."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Image ``index``.

        Raises:
            BadImageError: if it cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """What messages call image ``index``: its file, for instance."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A source whose images have one size and are held in memory; the loader reads whole batches.

    Args:
        title: what the images are called, ``digits`` for instance.
        pixels: all images, channels last.
        labels: the label of every image.
        classes: names of the classes.

    >>> pixels = np.zeros((2, 8, 8, 1), dtype=np.uint8)
    >>> source = ArraySource("blank", pixels, np.array([0, 1]), ("left", "right"))
    >>> len(source), source.channels, source.name(1)
    (2, 1, 'blank[1]')
    """

    title: str
    pixels: UInt8[np.ndarray, "n h w c"] = field(repr=False)
    labels: Int[np.ndarray, " n"] = field(repr=False)
    classes: tuple[str, ...]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for color."""
        return self.pixels.shape[3]

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Image ``index``."""
        return self.pixels[index]

    def images(self, indices: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m h w c"]:
        """Several images at once."""
        return self.pixels[indices]

    def name(self, index: int) -> str:
        """``title[index]``."""
        return f"{self.title}[{index}]"
