"""RandAugment's sixteen operations, in the order in which the authors number them."""

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
"""Their names: an image's random number chooses among them by place."""

SIGNED = tuple(name for name in OPERATIONS if TABLE[name].signed(quirks=True))
"""Those that go either way in the authors' code."""


def arguments(
    magnitude: float, sign: int, height: int, width: int, *, quirks: bool = True
) -> dict[str, float]:
    """The argument of each operation that has one: degrees, bits, threshold, factor, pixels, ….

    Args:
        magnitude: the level; 10 is what the rules were made for.
        sign: 1 or −1, for the operations that go either way.
        height: of the images, pixels.
        width: of the images, pixels.
        quirks: the authors' rules; else those that :class:`RandAugment` lists.

    >>> authors, clean = (arguments(5, -1, 64, 64, quirks=quirks) for quirks in (True, False))
    >>> [(name, authors[name], clean[name]) for name in ("Posterize", "Color", "TranslateX")]
    [('Posterize', 2, 6), ('Color', 1.0, 0.55), ('TranslateX', -50.0, -14.4)]
    """
    level = Level(magnitude, sign, height, width, quirks)
    found = {name: TABLE[name].arguments(level) for name in OPERATIONS}
    return {name: given[0] for name, given in found.items() if given}
