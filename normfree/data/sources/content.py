"""Decoding, for sources that have the bytes of encoded images."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from normfree.data.decode import EncodedImage, decode, open_image
from normfree.data.formats import Limits


class DecodedContent:
    """The decoding methods of a source with ``content``, ``name`` and ``limits``."""

    limits: Limits

    def content(self, index: int) -> bytes:
        """The bytes of image ``index``."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """The name of image ``index`` in messages."""
        raise NotImplementedError

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image ``index`` in RGB.

        Raises:
            BadImageError: the image cannot be read.
        """
        return decode(self.content(index), name=self.name(index), limits=self.limits)

    def encoded(self, index: int) -> EncodedImage:
        """Image ``index``, to be decoded in parts."""
        return open_image(self.content(index), name=self.name(index), limits=self.limits)


class Places(NamedTuple):
    """Where the images of a source lie.

    Attributes:
        shard: the shard of each image.
        inside: a number by which the images of a shard are in their order.
        total: number of shards.
    """

    shard: Int[np.ndarray, " n"]
    inside: Int[np.ndarray, " n"]
    total: int


class ShardedContent(DecodedContent):
    """A source with ``content`` whose images lie in shards, each best read from front to back."""

    @property
    def places(self) -> Places:
        """Where the images lie."""
        raise NotImplementedError

    @property
    def shards(self) -> Int[np.ndarray, " shards"]:
        """Number of images in each shard."""
        return np.bincount(self.places.shard, minlength=self.places.total)

    @cached_property
    def by_shard(self) -> Int[np.ndarray, " n"]:
        """The images shard by shard, in the order in which each shard has them."""
        return np.lexsort((self.places.inside, self.places.shard))
