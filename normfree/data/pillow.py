"""Decode whole images with Pillow.

It reads many formats, and reports a truncated file instead of filling the rest of the image with
gray.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from normfree.data.formats import FORMATS, INTERPRETED_SHARE, Limits, readable_formats
from normfree.data.headers import too_many

_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose mode ``I`` ranges from 0 to 65,535
_BAND = 2**22  # pixels converted at a time; bounds the memory
_ORIENTATION = 0x0112

# Without a handler, Python would print Pillow's log to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextmanager
def without_pillow_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings: a large image is checked here, and damaged EXIF is ignored."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


class RefusedError(Exception):
    """An image that is rejected before it is decoded."""


def pillow_pixels(content: bytes, channels: int, limits: Limits) -> UInt8[np.ndarray, "h w c"]:
    """Decode a whole image.

    Args:
        content: contents of a file, whose header was checked.
        channels: 3 for RGB, 1 for grayscale.
        limits: size limits.

    Raises:
        RefusedError: the image is too large, or its white level is unknown.
        Exception: of many kinds, if it cannot be decoded.
    """
    with (
        without_pillow_warnings(),
        Image.open(io.BytesIO(content), formats=readable_formats()) as image,
    ):
        _check_white(image)
        _fit(image, limits)
        image.load()
        pixels, held = _pixels(image, channels), orientation(image)
    return np.ascontiguousarray(upright(pixels, held))


def pillow_orientation(content: bytes) -> object:
    """The EXIF orientation of a JPEG file, without decoding its pixels; 1 if it has none."""
    with (
        without_pillow_warnings(),
        Image.open(io.BytesIO(content), formats=readable_formats()) as image,
    ):
        return orientation(image)


def _check_white(image: Image.Image) -> None:
    """Reject 32-bit integers and floats, whose white level is unknown."""
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise RefusedError(f"{kind} grayscale has no known white level: store it with 8 or 16 bits")


def _fit(image: ImageFile.ImageFile, limits: Limits) -> None:
    """Reject an image that is too large, or set up a JPEG for decoding at a reduced size."""
    width, height = image.size
    if min(width, height) < 1:
        raise RefusedError("it has no pixels")
    if max(width, height) > limits.max_side:
        raise RefusedError(
            f"it has {width:,} × {height:,} pixels, and neither side may exceed "
            f"{limits.max_side:,} (max_side)"
        )
    allowed = int(limits.max_pixels * FORMATS.get(image.format or "", FORMATS["JPEG"]).share)
    if any(tile[0] in Image.DECODERS for tile in image.tile):
        allowed = int(limits.max_pixels * INTERPRETED_SHARE)
    if width * height > allowed and image.format in ("JPEG", "MPO"):
        _scale(image, allowed)
    for across, down in (image.size, _tile(image)):
        if refused := too_many(across, down, allowed):
            raise RefusedError(refused)


def _tile(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, which the file may declare larger than the image."""
    if not isinstance(image, TiffImageFile):
        return 0, 0
    return image.tag_v2.get(TILEWIDTH, 0), image.tag_v2.get(TILELENGTH, 0)


def _scale(image: ImageFile.ImageFile, allowed: int) -> None:
    """Decode at 1/2, 1/4 or 1/8 of each side, the first that fits; pixels are averaged."""
    if image.info.get("progressive"):  # the decoder holds the coefficients of the whole image
        return
    width, height = image.size
    for scale in (2, 4, 8):
        if -(-width // scale) * -(-height // scale) <= allowed and min(width, height) >= scale:
            image.draft(image.mode, (width // scale, height // scale))
            return


def _pixels(image: Image.Image, channels: int) -> UInt8[np.ndarray, "h w c"]:
    """Convert the pixels to an array band by band; Pillow's own path holds three more copies."""
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
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":  # converting a transparent palette to RGB directly makes Pillow warn
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == mode else image.convert(mode))


def orientation(image: Image.Image) -> object:
    """The EXIF orientation, 1 to 8; 1 (upright) if it cannot be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged tag is no reason to reject good pixels
        return 1


def upright(pixels: UInt8[np.ndarray, "h w c"], held: object) -> UInt8[np.ndarray, "..."]:
    """Apply an EXIF orientation; returns a view, not a copy."""
    if held in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if held in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if held in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
