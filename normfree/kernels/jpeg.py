"""Parts of JPEG images, decoded to the bytes that Pillow decodes them to.

Baseline and extended sequential files of one scan, in gray or YCbCr with the usual subsampling, are
decoded: nearly all photographs. All others, and all damaged files, are left to Pillow.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from normfree.kernels.library import library

_NO_MEMORY, _OUTSIDE = 1, 3


class JpegHeader(NamedTuple):
    """What the header of a file says.

    Attributes:
        height: of the stored image, pixels.
        width: of the stored image, pixels.
        components: 1 for gray, 3 for color.
        metadata: whether there is a segment that may hold an orientation.
    """

    height: int
    width: int
    components: int
    metadata: bool


def jpeg_header(content: bytes) -> JpegHeader | None:
    """The header of a file that :func:`jpeg_region` may be able to decode, else None.

    >>> jpeg_header(b"GIF89a") is None
    True
    """
    kernels = library()
    if kernels is None:
        return None
    found = (ctypes.c_int64 * 4)()
    if kernels.normfree_jpeg_header(content, ctypes.c_int64(len(content)), found):
        return None
    height, width, components, metadata = found
    return JpegHeader(height, width, components, bool(metadata))


def jpeg_region(
    content: bytes, top: int, left: int, height: int, width: int, channels: int
) -> UInt8[np.ndarray, "{height} {width} {channels}"] | None:
    """The pixels of a part of an image; None if the file is damaged, or not of a kind it decodes.

    Damage below the part, other than a missing end of the file, is not noticed.

    Args:
        content: contents of the file.
        top: first row.
        left: first column.
        height: number of rows.
        width: number of columns.
        channels: 3 for RGB (gray is repeated), 1 for gray.

    Raises:
        ValueError: the part reaches out of the image.
        MemoryError: there is not enough memory.
    """
    kernels = library()
    if kernels is None or min(height, width) < 1:
        return None
    pixels = np.empty((height, width, channels), dtype=np.uint8)
    failed = kernels.normfree_jpeg_region(
        content,
        *map(ctypes.c_int64, (len(content), top, left, height, width, channels)),
        ctypes.c_void_p(pixels.__array_interface__["data"][0]),
    )
    if failed == _NO_MEMORY:
        raise MemoryError("not enough memory to decode an image")
    if failed == _OUTSIDE:
        raise ValueError(f"rows {top} + {height}, columns {left} + {width} reach out of the image")
    return None if failed else pixels
