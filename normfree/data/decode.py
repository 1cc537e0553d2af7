"""From a file's bytes to pixels.

Pillow decodes as fast as OpenCV here, reads more formats, and reports a truncated file instead of
filling the rest of the image with grey. Files may be hostile: only the formats of
:mod:`normfree.data.formats` are opened, and sizes are checked before pixels are allocated.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from normfree.data.files import read_regular
from normfree.data.formats import FORMATS, INTERPRETED_SHARE, LIMITS, Limits, readable_formats
from normfree.data.headers import check_header, too_many
from normfree.errors import BadImageError

_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose mode ``I`` runs from 0 to 65,535
_BAND = 2**22  # pixels converted at a time: bounds the memory
_ORIENTATION = 0x0112


def decode(
    data: bytes | Path,
    *,
    channels: int = 3,
    name: str | None = None,
    limits: Limits = LIMITS,
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image, upright.

    The orientation that the camera stored (EXIF) is applied; where that is damaged, it is ignored.
    Sixteen-bit grey is divided by 256; grey of 32 bits or floats is refused, because its white
    level is unknown. Transparency is dropped, the color underneath kept; of an animation, the first
    frame is read. A JPEG file of more than ``limits.max_pixels`` is decoded at 1/2, 1/4 or 1/8 of
    its size (a progressive one is refused: that would save no memory).

    Args:
        data: a regular file or the bytes of one, in a format of :data:`~normfree.data.FORMATS`.
        channels: 3 for color (grey images are repeated), 1 for grey.
        name: what to call the image in an error; by default the file.
        limits: how large it may be.

    Returns:
        The image, red, green and blue last.

    Raises:
        BadImageError: if it is too large or cannot be read to the end.

    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 2), (10, 20, 30)).save(file, "png")
    >>> decode(file.getvalue())[0, 0]
    array([10, 20, 30], dtype=uint8)
    """
    name = name or (str(data) if isinstance(data, Path) else "<bytes>")
    try:
        content = read_regular(data, limits.max_bytes) if isinstance(data, Path) else data
        return _decoded(content, channels, limits)
    except _RefusedError as error:
        raise BadImageError(name, str(error)) from None
    except MemoryError:
        raise BadImageError(name, "there is not enough memory to decode it") from None
    except UnidentifiedImageError:
        formats = ", ".join(FORMATS)
        raise BadImageError(name, f"not an image in a format that is read: {formats}") from None
    except OSError as error:
        raise BadImageError(name, error.strerror or str(error)) from error
    except Exception as error:  # what a decoder raises on a damaged file is not documented
        raise BadImageError(name, f"{type(error).__name__}: {error}") from error


class _RefusedError(Exception):
    """An image that could perhaps be decoded, but is not."""


def _decoded(content: bytes, channels: int, limits: Limits) -> UInt8[np.ndarray, "h w c"]:
    if not content:
        raise _RefusedError("the file is empty")
    if refused := check_header(content, limits):
        raise _RefusedError(refused)
    with Image.open(io.BytesIO(content), formats=readable_formats()) as image:
        _check_white(image)
        _fit(image, limits)
        image.load()
        pixels, held = _pixels(image, channels), _orientation(image)
    return np.ascontiguousarray(_upright(pixels, held))


def _check_white(image: Image.Image) -> None:
    """Refuse numbers whose white level is unknown: 32-bit integers and floats."""
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise _RefusedError(f"{kind} grey has no known white: store it with 8 or 16 bits")


def _fit(image: ImageFile.ImageFile, limits: Limits) -> None:
    """Refuse an image that is too large, or let a JPEG be decoded at a fraction of its size."""
    width, height = image.size
    if min(width, height) < 1:
        raise _RefusedError("it has no pixels")
    if max(width, height) > limits.max_side:
        raise _RefusedError(
            f"it has {width:,} × {height:,} pixels, and no side may have more than "
            f"{limits.max_side:,}"
        )
    allowed = int(limits.max_pixels * FORMATS.get(image.format or "", FORMATS["JPEG"]).share)
    if any(tile[0] in Image.DECODERS for tile in image.tile):
        allowed = int(limits.max_pixels * INTERPRETED_SHARE)
    if width * height > allowed and image.format in ("JPEG", "MPO"):
        _scale(image, allowed)
    for across, down in (image.size, _tile(image)):
        if refused := too_many(across, down, allowed):
            raise _RefusedError(refused)


def _tile(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, which may be declared larger than the image."""
    if not isinstance(image, TiffImageFile):
        return 0, 0
    return image.tag_v2.get(TILEWIDTH, 0), image.tag_v2.get(TILELENGTH, 0)


def _scale(image: ImageFile.ImageFile, allowed: int) -> None:
    """Decode 1/2, 1/4 or 1/8 of each side, whichever fits first; its pixels are means."""
    if image.info.get("progressive"):  # holds the coefficients of the whole image
        return
    width, height = image.size
    for scale in (2, 4, 8):
        if -(-width // scale) * -(-height // scale) <= allowed and min(width, height) >= scale:
            image.draft(image.mode, (width // scale, height // scale))
            return


def _pixels(image: Image.Image, channels: int) -> UInt8[np.ndarray, "h w c"]:
    """The pixels as an array, converted in bands: Pillow's own way holds three more copies."""
    width, height = image.size
    pixels = np.empty((height, width, channels), dtype=np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = image if rows >= height else image.crop((0, top, width, bottom))
        pixels[top:bottom] = _converted(band, channels).reshape(-1, width, channels)
    return pixels


def _converted(image: Image.Image, channels: int) -> UInt8[np.ndarray, "..."]:
    mode = "RGB" if channels == 3 else "L"
    if image.mode.startswith("I"):  # sixteen bits; Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":  # a palette's transparency must not be guessed at
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _orientation(image: Image.Image) -> object:
    """The orientation that the camera stored, 1 to 8; 1 (upright) where it cannot be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # good pixels are not refused for what a damaged tag says
        return 1


def _upright(pixels: UInt8[np.ndarray, "h w c"], held: object) -> UInt8[np.ndarray, "..."]:
    """Undo how the camera was held: a view, no copy."""
    if held in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if held in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if held in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
