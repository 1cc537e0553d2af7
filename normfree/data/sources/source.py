"""The interface of a data source, and a source held in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt8

from normfree.data.view import Regions

Split: TypeAlias = Literal["train", "val", "test"]
"""``val`` is used for model selection; ``test``, if there is one, is never used for selection."""

Labels: TypeAlias = Int[np.ndarray, " n"] | Bool[np.ndarray, "n k"]
"""The class index of each image, int64. Or, where an image may have any number of classes, a row of
k truth values for each, bool (multi-hot)."""


@runtime_checkable
class Source(Protocol):
    """Labeled images, indexed from 0."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        ...

    @property
    def labels(self) -> Labels:
        """Class index of each image, int64; or its classes, bool (n, k)."""
        ...

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for RGB."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Image ``index``.

        Raises:
            BadImageError: the image cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """The name of image ``index`` in messages, such as its path."""
        ...


@runtime_checkable
class EncodedSource(Protocol):
    """A source of files: the loader decodes only the parts of an image that a view shows."""

    def encoded(self, index: int) -> Regions:
        """The file of image ``index``, see :func:`~normfree.data.decode.open_image`.

        Raises:
            BadImageError: the image cannot be read.
        """
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images of one size, held in memory; the loader reads whole batches at once.

    Args:
        title: name of the source in messages, such as ``digits``.
        pixels: all images, channels last.
        labels: class index of each image, or its classes as a multi-hot row.
        classes: class names.

    >>> pixels = np.zeros((2, 8, 8, 1), dtype=np.uint8)
    >>> source = ArraySource("blank", pixels, np.array([0, 1]), ("left", "right"))
    >>> len(source), source.channels, source.name(1)
    (2, 1, 'blank[1]')
    """

    title: str
    pixels: UInt8[np.ndarray, "n h w c"] = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for RGB."""
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


def class_counts(labels: Labels, classes: int) -> Int[np.ndarray, " k"]:
    """Number of images of each class.

    >>> class_counts(np.array([0, 2, 2]), 3), class_counts(np.eye(2, dtype=bool), 2)
    (array([1, 0, 2]), array([1, 1]))
    """
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
