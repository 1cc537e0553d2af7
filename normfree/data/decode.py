"""From a file's bytes to pixels.

Pillow decodes as fast as OpenCV here, reads more formats, and reports a truncated file instead of
filling the rest of the image with grey.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from normfree.errors import BadImageError

_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose mode ``I`` runs from 0 to 65,535


def decode(
    data: bytes | Path, *, channels: int = 3, name: str | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode a image, upright.

    The orientation a camera noted (EXIF) is applied. Sixteen-bit grey is divided by 256; grey of
    32 bits or floats is refused, for nobody knows where its white is. Transparency is dropped, the
    colour underneath kept; of an animation, the first image is read.

    Args:
        data: a file or its bytes, in any format that Pillow reads.
        channels: 3 for colour (grey images are repeated), 1 for grey.
        name: what to call the image in an error; by default the file.

    Returns:
        The image, red, green and blue last.

    Raises:
        BadImageError: if it cannot be read to the end.

    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 2), (10, 20, 30)).save(file, "png")
    >>> decode(file.getvalue())[0, 0]
    array([10, 20, 30], dtype=uint8)
    """
    name = name or (str(data) if isinstance(data, Path) else "<bytes>")
    try:
        content = data.read_bytes() if isinstance(data, Path) else data
        if not content:
            raise BadImageError(name, "the file is empty")
        with Image.open(io.BytesIO(content)) as file:
            _check_white(file, name)
            return _pixels(ImageOps.exif_transpose(file), channels)
    except (BadImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise BadImageError(name, "not a image in a format that Pillow reads") from None
    except OSError as error:
        raise BadImageError(name, error.strerror or str(error)) from error
    except Exception as error:  # what a decoder raises on a damaged file is not documented
        raise BadImageError(name, f"{type(error).__name__}: {error}") from error


def _check_white(image: Image.Image, name: str) -> None:
    """Refuse numbers of which nobody knows what is white: 32-bit integers and floats."""
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise BadImageError(name, f"{kind} grey has no known white: store it with 8 or 16 bits")


def _pixels(image: Image.Image, channels: int) -> UInt8[np.ndarray, "h w c"]:
    mode = "RGB" if channels == 3 else "L"
    if image.mode.startswith("I"):  # sixteen bits; Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":  # a palette's transparency must not be guessed at
        image = image.convert("RGBA")
    pixels = np.array(image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], channels)


@cache
def image_endings() -> frozenset[str]:
    """The endings of the file formats that Pillow reads, in lower case.

    >>> {".jpg", ".jpeg", ".png", ".webp"} <= image_endings()
    True
    >>> ".pdf" in image_endings()
    False
    """
    endings = Image.registered_extensions()  # loads Pillow's plugins, which fills Image.OPEN
    return frozenset(ending for ending, kind in endings.items() if kind in Image.OPEN)
