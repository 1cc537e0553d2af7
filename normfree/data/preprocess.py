"""Evaluation preprocessing: a photograph of any size becomes a square, without randomness."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from normfree.data.resize import resize_bicubic


def resize_crop(
    image: UInt8[np.ndarray, "h w c"], size: int, margin: int = 32
) -> Float32[np.ndarray, "size size c"]:
    """Resize both sides to ``size + margin``, then keep the ``size × size`` centre.

    The aspect ratio is not kept: height and width are scaled independently.

    Args:
        image: a photograph.
        size: side of the result, pixels.
        margin: total pixels cut off along each axis.

    Returns:
        The image, in grey levels, 0 to 255 but for the overshoot of the cubic.

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
    """The central square whose side is ``size / (size + padding)`` of the shorter side.

    Args:
        image: a photograph.
        size: side it will be resized to, pixels.
        padding: pixels that would be left around the crop if it were resized to ``size``.

    >>> padded_center_crop(np.zeros((90, 130, 3), dtype=np.uint8), 64).shape
    (60, 60, 3)
    """
    height, width = image.shape[:2]
    ratio = np.float32(size / (size + padding))  # single precision, as the reference rounds
    side = max(1, int(ratio * np.float32(min(height, width))))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return image[top : top + side, left : left + side]


def center_crop_resize(
    image: UInt8[np.ndarray, "h w c"], size: int, padding: int = 32
) -> Float32[np.ndarray, "size size c"]:
    """Cut the padded centre square, then resize it to ``size``: the aspect ratio is kept.

    Args:
        image: a photograph.
        size: side of the result, pixels.
        padding: see :func:`padded_center_crop`.

    >>> center_crop_resize(np.zeros((48, 64, 3), dtype=np.uint8), 16).shape
    (16, 16, 3)

    Source: ``crop_resize`` of the authors' ``dataset.py``, used to evaluate the NF-RegNets.
    """
    return resize_bicubic(padded_center_crop(image, size, padding), size, size)
