"""Decoding, for sources that have the bytes of encoded images."""

from __future__ import annotations

from jaxtyping import UInt8
from numpy import ndarray

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

    def image(self, index: int) -> UInt8[ndarray, "h w 3"]:
        """Image ``index`` in RGB.

        Raises:
            BadImageError: the image cannot be read.
        """
        return decode(self.content(index), name=self.name(index), limits=self.limits)

    def encoded(self, index: int) -> EncodedImage:
        """Image ``index``, to be decoded in parts."""
        return open_image(self.content(index), name=self.name(index), limits=self.limits)
