"""Evaluation preprocessing: turn an image of any size into a square, deterministically."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from normfree.data.resize import resize_bicubic


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
    first = (margin + 1) // 2
    keep = slice(first, first + size)
    return resize_bicubic(image, size + margin, size + margin, window=(keep, keep))


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
    height, width = image.shape[:2]
    ratio = np.float32(size / (size + padding))  # float32, to round like the reference
    side = max(1, int(ratio * np.float32(min(height, width))))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return image[top : top + side, left : left + side]


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
    return resize_bicubic(padded_center_crop(image, size, padding), size, size)
