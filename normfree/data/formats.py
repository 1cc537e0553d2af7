"""Which image files are read, and how large they may be."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from PIL import Image
from pydantic import Field

from normfree.schema import record


class Format(NamedTuple):
    """A file format.

    Attributes:
        endings: of its files, in lower case.
        share: of ``Limits.max_pixels`` that one image may have, less than 1 where the decoder holds
            several copies of the pixels.
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
"""The raster formats that are read, by Pillow's names.

Left out are formats that run a program (EPS), that unpack other files (FITS, ICO) or whose memory
does not follow from the size in the header (JPEG 2000: precincts; AVIF: a frame larger than the
declared image is decoded, then scaled).
"""

INTERPRETED_SHARE = 1 / 64
"""Of ``max_pixels``, for the few encodings that Pillow decodes in Python: seconds a megapixel."""


@record
class Limits:
    """How large an image may be. The size in the header is checked before any pixel is allocated.

    >>> Limits(max_pixels=0)
    Traceback (most recent call last):
    normfree.errors.UserError: max_pixels should be greater than 0; got 0
    """

    max_pixels: int = Field(default=2**26, gt=0, le=178_956_970)
    """Height × width, 67 million by default, which takes up to 0.8 GB to decode; at most what
    Pillow accepts. Larger JPEG files are decoded at 1/2, 1/4 or 1/8 of their size."""
    max_side: int = Field(default=65_535, gt=0)
    """Height and width; no JPEG has more."""
    max_bytes: int = Field(default=2**28, gt=0)
    """Bytes of a file, 268 million by default."""


LIMITS = Limits()
"""The default."""


@cache
def readable_formats() -> tuple[str, ...]:
    """Those of :data:`FORMATS` that the installed Pillow was built with.

    >>> {"JPEG", "PNG"} <= set(readable_formats())
    True
    """
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_endings() -> frozenset[str]:
    """The endings of the files that are read, in lower case; other files of a folder are ignored.

    >>> {".jpg", ".jpeg", ".png", ".webp"} <= image_endings()
    True
    >>> image_endings().isdisjoint({".eps", ".h5", ".mpg", ".pdf"})
    True
    """
    return frozenset(ending for name in readable_formats() for ending in FORMATS[name].endings)
