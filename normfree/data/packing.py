"""How an image becomes part of a pack: read, resized, encoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from normfree.data.decode import decode
from normfree.data.files import read_regular
from normfree.data.formats import LIMITS
from normfree.data.pack import Encoding
from normfree.data.ring import allocate
from normfree.data.sources.source import Source
from normfree.errors import BadImageError, UserError
from normfree.schema import Field, record

CHUNK = 16
"""Images that a worker packs at a time."""


@record
class Packing:
    """How images are stored.

    Args:
        short_side: larger images are resized to this shorter side, with antialiasing; None keeps
            the size.
        square: resize both sides, to ``short_side``, as the NFNets' evaluation does.
        encoding: see :data:`~normfree.data.pack.Encoding`.
        quality: of JPEGs. Without ``short_side``, files are kept as they are.

    Raises:
        UserError: a square has no side.
    """

    short_side: int | None = Field(default=None, ge=1, le=2**16)
    square: bool = False
    encoding: Encoding = "raw"
    quality: int = Field(default=95, ge=1, le=100)

    def __post_init__(self) -> None:
        """Reject a square without a side."""
        if self.square and self.short_side is None:
            raise UserError("--square needs a side: add --size N")

    def resized(self, image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h2 w2 c"]:
        """An image as it is stored.

        >>> Packing(short_side=4).resized(np.zeros((8, 12, 3), dtype=np.uint8)).shape
        (4, 6, 3)
        """
        height, width, channels = image.shape
        short = min(height, width)
        if self.short_side is None or (short <= self.short_side and not self.square):
            return image
        size = tuple(max(1, round(side * self.short_side / short)) for side in (width, height))
        if self.square:
            size = (self.short_side, self.short_side)
        planes = image if channels == 3 else image[..., 0]
        made = Image.fromarray(planes).resize(size, Image.Resampling.BICUBIC)  # antialiased
        return np.asarray(made).reshape(size[1], size[0], channels)

    def encoded(self, image: UInt8[np.ndarray, "h w c"]) -> bytes:
        """An image as a JPEG."""
        file = io.BytesIO()
        planes = image if image.shape[2] == 3 else image[..., 0]
        Image.fromarray(planes).save(file, "jpeg", quality=self.quality, subsampling="4:4:4")
        return file.getvalue()


class Packed(NamedTuple):
    """A chunk of images.

    Attributes:
        content: their bytes, one image behind the other.
        lengths: of each image in bytes.
        sides: height and width of each image.
        indices: of each image in the source.
        bad: the images that could not be read.
    """

    content: Tensor
    lengths: list[int]
    sides: list[tuple[int, int]]
    indices: list[int]
    bad: list[BadImageError]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.content.numel()


@dataclass(frozen=True, eq=False)
class Packer:
    """Makes a chunk of a pack, by its number."""

    source: Source
    packing: Packing

    def __call__(self, number: int) -> Packed:
        """Images ``16 · number`` to ``16 · number + 15``."""
        parts: list[UInt8[np.ndarray, " n"]] = []
        done = Packed(torch.empty(0), [], [], [], [])
        for index in range(number * CHUNK, min((number + 1) * CHUNK, len(self.source))):
            try:
                stored, sides = self._stored(index)
            except BadImageError as error:
                done.bad.append(error)
                continue
            parts.append(np.frombuffer(stored, dtype=np.uint8))
            done.lengths.append(len(parts[-1]))
            done.sides.append(sides)
            done.indices.append(index)
        content = allocate((sum(done.lengths),), torch.uint8)
        if parts:
            np.concatenate(parts, out=content.numpy())
        return done._replace(content=content)

    def _stored(self, index: int) -> tuple[bytes | UInt8[np.ndarray, " n"], tuple[int, int]]:
        """What is stored of an image, and its height and width."""
        if self.packing.encoding == "jpeg" and self.packing.short_side is None:
            files = getattr(self.source, "files", None)
            if files is not None:
                return _kept(files[index], self.source, index)
        image = self.packing.resized(self.source.image(index))
        sides = image.shape[0], image.shape[1]
        if self.packing.encoding == "jpeg":
            return self.packing.encoded(image), sides
        return np.ascontiguousarray(image).reshape(-1), sides


def _kept(file: str, source: Source, index: int) -> tuple[bytes, tuple[int, int]]:
    """A file as it is, if it can be decoded."""
    try:
        content = read_regular(Path(file), LIMITS.max_bytes)
    except OSError as error:
        raise BadImageError(file, error.strerror or str(error)) from error
    image = decode(content, channels=source.channels, name=source.name(index))
    return content, (image.shape[0], image.shape[1])
