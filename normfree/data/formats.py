"""Supported image formats and size limits."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from PIL import Image
from pydantic import Field

from normfree.schema import record


class Format(NamedTuple):
    """A file format.

    Attributes:
        endings: file name extensions, in lower case.
        share: fraction of ``Limits.max_pixels`` that an image may have; below 1 if the decoder
            holds several copies of the pixels.
    """

    endings: tuple[str, ...]
    share: float = 1.0


FORMATS = {
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif")),
    "PNG": Format((".png", ".apng")),
    "WEBP": Format((".webp",), share=0.5),  # the canvas twice, then its bytes, then the image
    "GIF": Format((".gif",)),
    "BMP": Format((".bmp",)),
    "TIFF": Format((".tif", ".tiff")),
    "PPM": Format((".ppm", ".pgm", ".pbm", ".pnm")),
}
"""The supported raster formats, by Pillow's names.

Excluded are formats that run a program (EPS), formats that unpack other files (FITS, ICO), and
formats whose memory use does not follow from the size in the header (JPEG 2000, because of
precincts; AVIF, which decodes a frame larger than the declared image and then scales it).
"""

INTERPRETED_SHARE = 1 / 64
"""Fraction of ``max_pixels`` for encodings that Pillow decodes in Python, at seconds per
megapixel."""


@record
class Limits:
    """Size limits of an image, checked against the header before any pixel is allocated.

    >>> Limits(max_pixels=0)
    Traceback (most recent call last):
    normfree.errors.UserError: max_pixels should be greater than 0; got 0
    """

    max_pixels: int = Field(default=2**26, gt=0, le=178_956_970)
    """Height × width. The default of 67 million takes up to 0.8 GB to decode; the maximum is
    Pillow's own, and nothing larger is opened. JPEG files between the two are decoded at 1/2, 1/4
    or 1/8 of their size."""
    max_side: int = Field(default=65_535, gt=0)
    """Height and width each; the default is the largest that JPEG allows."""
    max_bytes: int = Field(default=2**28, gt=0)
    """File size in bytes, 268 million by default."""


LIMITS = Limits()
"""The default limits."""


@cache
def readable_formats() -> tuple[str, ...]:
    """The members of :data:`FORMATS` that the installed Pillow supports.

    >>> {"JPEG", "PNG"} <= set(readable_formats())
    True
    """
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_endings() -> frozenset[str]:
    """File name extensions of supported formats, in lower case; a folder's other files are ignored.

    >>> {".jpg", ".jpeg", ".png", ".webp"} <= image_endings()
    True
    >>> image_endings().isdisjoint({".eps", ".h5", ".mpg", ".pdf"})
    True
    """
    return frozenset(ending for name in readable_formats() for ending in FORMATS[name].endings)
