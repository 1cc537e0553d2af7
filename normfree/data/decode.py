"""Decode image files, whole or in parts.

Parts of usual JPEG files are decoded by a kernel, to the same bytes as by Pillow; see
:mod:`normfree.kernels.jpeg`. All others are decoded by Pillow, whole. Files may be hostile: only
the formats in :mod:`normfree.data.formats` are opened, and sizes are checked before pixels are
allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from normfree.data.files import read_regular
from normfree.data.formats import FORMATS, LIMITS, Limits
from normfree.data.headers import check_header, check_scans
from normfree.data.pillow import RefusedError, pillow_orientation, pillow_pixels, upright
from normfree.data.view import Box
from normfree.errors import BadImageError
from normfree.kernels import jpeg_header, jpeg_region


class EncodedImage:
    """An image in a file, of known size; parts of it are decoded when they are needed.

    Attributes:
        height: height in pixels, after the EXIF orientation.
        width: width in pixels, after the EXIF orientation.
        channels: 3 for RGB, 1 for grayscale.
        name: in error messages.
    """

    def __init__(self, content: bytes, channels: int, name: str, limits: Limits) -> None:
        self.channels, self.name = channels, name
        self._content, self._limits = content, limits
        self._pixels: UInt8[np.ndarray, "h w c"] | None = None
        self._orientation: object = 1
        header = jpeg_header(content) if content[:2] == b"\xff\xd8" else None
        if header and _fits(header.height, header.width, limits):
            self.height, self.width = header.height, header.width
            if header.metadata:
                self._orientation = pillow_orientation(content)
            if self._orientation in (5, 6, 7, 8):
                self.height, self.width = self.width, self.height
        else:
            self.height, self.width = self._whole().shape[:2]

    @property
    def box(self) -> Box:
        """The whole image."""
        return Box(0, 0, self.height, self.width)

    def region(self, box: Box) -> UInt8[np.ndarray, "h w c"]:
        """The pixels in a box.

        Damage below a part of a JPEG is not noticed, except where the file is truncated.

        Raises:
            BadImageError: the image cannot be decoded.
        """
        with _errors_of(self.name):
            if self._pixels is None:
                pixels = jpeg_region(self._content, *self._stored(box), self.channels)
                if pixels is not None:
                    return np.ascontiguousarray(upright(pixels, self._orientation))
            top, left, height, width = box
            return self._whole()[top : top + height, left : left + width]

    def _stored(self, box: Box) -> Box:
        """The box in the file's own orientation, the inverse of :func:`upright`."""
        top, left, height, width = box
        if self._orientation in (2, 3, 6, 7):
            left = self.width - left - width
        if self._orientation in (3, 4, 7, 8):
            top = self.height - top - height
        if self._orientation in (5, 6, 7, 8):
            return Box(left, top, width, height)
        return Box(top, left, height, width)

    def _whole(self) -> UInt8[np.ndarray, "h w c"]:
        if self._pixels is None:
            if refused := check_scans(self._content):
                raise RefusedError(refused)
            self._pixels = pillow_pixels(self._content, self.channels, self._limits)
        return self._pixels


def _fits(height: int, width: int, limits: Limits) -> bool:
    most = min(limits.max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or limits.max_pixels))
    return max(height, width) <= limits.max_side and height * width <= most


def open_image(
    data: bytes | Path,
    *,
    channels: int = 3,
    name: str | None = None,
    limits: Limits = LIMITS,
) -> EncodedImage:
    """Read a file and its header, so that parts of the image can be decoded; see :func:`decode`.

    Args:
        data: path or contents of a file in one of :data:`~normfree.data.FORMATS`.
        channels: 3 for RGB (grayscale images are repeated), 1 for grayscale.
        name: the image's name in error messages; the path by default.
        limits: size limits.

    Raises:
        BadImageError: the image is too large, or it is already known that it cannot be decoded.

    >>> import io
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (40, 20), (10, 20, 30)).save(file, "jpeg")
    >>> image = open_image(file.getvalue())
    >>> image.height, image.width, image.region(Box(8, 8, 1, 2)).tolist()
    (20, 40, [[[10, 20, 30], [10, 20, 30]]])
    """
    name = name or (str(data) if isinstance(data, Path) else "<bytes>")
    with _errors_of(name):
        content = read_regular(data, limits.max_bytes) if isinstance(data, Path) else data
        if not content:
            raise RefusedError("the file is empty")
        if refused := check_header(content, limits):
            raise RefusedError(refused)
        return EncodedImage(content, channels, name, limits)


def decode(
    data: bytes | Path,
    *,
    channels: int = 3,
    name: str | None = None,
    limits: Limits = LIMITS,
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image and apply its EXIF orientation.

    A damaged orientation tag is ignored. 16-bit grayscale is divided by 256; 32-bit and
    floating-point grayscale is rejected, because its white level is unknown. The alpha channel is
    dropped and the color under it kept. Only the first frame of an animation is read. A JPEG with
    more than ``limits.max_pixels`` pixels is decoded at 1/2, 1/4 or 1/8 of its size, unless it is
    progressive: scaled decoding saves no memory there, so the file is rejected.

    Args:
        data: path or contents of a file in one of :data:`~normfree.data.FORMATS`.
        channels: 3 for RGB (grayscale images are repeated), 1 for grayscale.
        name: the image's name in error messages; the path by default.
        limits: size limits.

    Returns:
        The image, with channels in RGB order.

    Raises:
        BadImageError: the image is too large or cannot be decoded completely.

    >>> import io
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 2), (10, 20, 30)).save(file, "png")
    >>> decode(file.getvalue())[0, 0]
    array([10, 20, 30], dtype=uint8)
    """
    image = open_image(data, channels=channels, name=name, limits=limits)
    return image.region(image.box)


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Turn the errors of decoders into errors that name the image."""
    try:
        yield
    except BadImageError:
        raise
    except RefusedError as error:
        raise BadImageError(name, str(error)) from None
    except Image.DecompressionBombError:
        raise BadImageError(name, _too_many_for_pillow()) from None
    except MemoryError:
        raise BadImageError(name, "not enough memory to decode it") from None
    except UnidentifiedImageError:
        formats = ", ".join(FORMATS)
        raise BadImageError(name, f"not an image in a supported format: {formats}") from None
    except OSError as error:
        raise BadImageError(name, error.strerror or str(error)) from error
    except Exception as error:  # decoders raise undocumented exceptions on damaged files
        raise BadImageError(name, f"{type(error).__name__}: {error}") from error


def _too_many_for_pillow() -> str:
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow warns above the number, and refuses twice it
    return f"it has more than {most:,} pixels, the most that Pillow opens; store it smaller"
