"""Evaluation preprocessing: turn an image of any size into a square, deterministically."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from normfree.data.resize import Resize
from normfree.data.view import Box, Pixels, View, render


def photograph_margin(test_size: int) -> int:
    """The margin of photographs: an eighth of their size, but no more than the paper's 32.

    >>> photograph_margin(192), photograph_margin(320)
    (24, 32)
    """
    return min(32, test_size // 8)


def resize_crop_view(
    height: int, width: int, size: int, margin: int = 32, *, resize: Resize = "tensorflow"
) -> View:
    """Resize both sides to ``size + margin``, then crop the ``size × size`` center.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        size: side of the result, pixels.
        margin: total pixels cropped along each axis.
        resize: the filter.

    >>> resize_crop_view(48, 64, 16).window
    (slice(16, 32, None), slice(16, 32, None))

    Source: as :func:`resize_crop`.
    """
    first, side = (margin + 1) // 2, size + margin
    keep = slice(first, first + size)
    return View(Box(0, 0, height, width), side, side, window=(keep, keep), resize=resize)


def center_crop_view(
    height: int,
    width: int,
    size: int,
    padding: int = 32,
    *,
    mirror: bool = False,
    resize: Resize = "tensorflow",
) -> View:
    """Crop the central square whose side is ``size / (size + padding)`` of the shorter side.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        size: side that the crop is resized to, pixels.
        padding: total margin along the shorter side, in pixels at the resized scale.
        mirror: whether to flip the image horizontally before cropping.
        resize: the filter.

    >>> center_crop_view(90, 130, 64).box
    Box(top=15, left=35, height=60, width=60)

    Source: as :func:`center_crop_resize`.
    """
    ratio = np.float32(size / (size + padding))  # float32, to round like the reference
    side = max(1, int(ratio * np.float32(min(height, width))))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    box = Box(top, width - left - side if mirror else left, side, side)
    return View(box, size, size, mirror=mirror, resize=resize)


def resize_crop(
    image: UInt8[np.ndarray, "h w c"], size: int, margin: int = 32
) -> Float32[np.ndarray, "size size c"]:
    """Resize both sides to ``size + margin``, then crop the ``size × size`` center.

    The aspect ratio is not preserved: height and width are scaled independently.

    Args:
        image: input image.
        size: side of the result, pixels.
        margin: total pixels cropped along each axis.

    Returns:
        The image, with values from 0 to 255 except where the bicubic kernel overshoots.

    >>> resize_crop(np.zeros((48, 64, 3), dtype=np.uint8), 16).shape
    (16, 16, 3)

    Source: ``resize_crop_32`` of the authors' ``dataset.py``, used to evaluate the NFNets.
    """
    height, width, _ = image.shape
    view = resize_crop_view(height, width, size, margin)
    return render(Pixels(image), view).transpose(1, 2, 0)


def padded_center_crop(
    image: UInt8[np.ndarray, "h w c"], size: int, padding: int = 32
) -> UInt8[np.ndarray, "side side c"]:
    """Crop the central square whose side is ``size / (size + padding)`` of the shorter side.

    Args:
        image: input image.
        size: side that the crop will be resized to, pixels.
        padding: total margin along the shorter side, in pixels at the resized scale.

    >>> padded_center_crop(np.zeros((90, 130, 3), dtype=np.uint8), 64).shape
    (60, 60, 3)
    """
    height, width, _ = image.shape
    return Pixels(image).region(center_crop_view(height, width, size, padding).box)


def center_crop_resize(
    image: UInt8[np.ndarray, "h w c"], size: int, padding: int = 32
) -> Float32[np.ndarray, "size size c"]:
    """Crop the padded center square and resize it to ``size``, preserving the aspect ratio.

    Args:
        image: input image.
        size: side of the result, pixels.
        padding: see :func:`padded_center_crop`.

    >>> center_crop_resize(np.zeros((48, 64, 3), dtype=np.uint8), 16).shape
    (16, 16, 3)

    Source: ``crop_resize`` of the authors' ``dataset.py``, used to evaluate the NF-RegNets.
    """
    height, width, _ = image.shape
    view = center_crop_view(height, width, size, padding)
    return render(Pixels(image), view).transpose(1, 2, 0)
