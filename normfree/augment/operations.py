"""RandAugment's sixteen operations, in the order of the authors' code."""

from __future__ import annotations

from normfree.augment.cutout import cutout
from normfree.augment.enhance import brightness, color, contrast, sharpness
from normfree.augment.geometry import rotate, shear_x, shear_y, translate_x, translate_y
from normfree.augment.point import (
    auto_contrast,
    equalize,
    invert,
    posterize,
    solarize,
    solarize_add,
)
from normfree.augment.registry import TABLE, Level

__all__ = [
    "OPERATIONS",
    "SIGNED",
    "arguments",
    "auto_contrast",
    "brightness",
    "color",
    "contrast",
    "cutout",
    "equalize",
    "invert",
    "posterize",
    "rotate",
    "sharpness",
    "shear_x",
    "shear_y",
    "solarize",
    "solarize_add",
    "translate_x",
    "translate_y",
]

OPERATIONS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Cutout",
    "SolarizeAdd",
)
"""Names of the operations; a random index into this tuple selects the operation of an image."""

SIGNED = tuple(name for name in OPERATIONS if TABLE[name].signed(quirks=True))
"""Operations that have a random sign in the authors' code."""


def arguments(
    magnitude: float, sign: int, height: int, width: int, *, quirks: bool = True
) -> dict[str, float]:
    """The argument of each operation that takes one, such as degrees, bits or a factor.

    Args:
        magnitude: the level; the rules were designed for a maximum of 10.
        sign: 1 or −1, for operations with a sign.
        height: height of the images, pixels.
        width: width of the images, pixels.
        quirks: whether to use the authors' rules; else those listed in :class:`RandAugment`.

    >>> authors, clean = (arguments(5, -1, 64, 64, quirks=quirks) for quirks in (True, False))
    >>> [(name, authors[name], clean[name]) for name in ("Posterize", "Color", "TranslateX")]
    [('Posterize', 2, 6), ('Color', 1.0, 0.55), ('TranslateX', -50.0, -14.4)]
    """
    level = Level(magnitude, sign, height, width, quirks)
    found = {name: TABLE[name].arguments(level) for name in OPERATIONS}
    return {name: given[0] for name, given in found.items() if given}
