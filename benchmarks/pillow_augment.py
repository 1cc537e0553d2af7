"""A baseline: mixing and RandAugment per image with Pillow, as in typical data loader workers.

``normfree bench augment --peers`` loads this file from the checkout.

The operations are Pillow's own (``ImageOps``, ``ImageEnhance``, ``Image.transform``), with the
arguments of :mod:`normfree.augment.randaugment`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from normfree.augment import Mix
from normfree.augment.randaugment import Plan

_FILL = (128, 128, 128)


class Step(NamedTuple):
    """One operation for one image.

    Attributes:
        operation: name of the operation.
        sign: 1 or −1.
        row: row of Cutout's center.
        column: column of Cutout's center.
    """

    operation: str
    sign: int
    row: int
    column: int


def steps_of_each(plan: Plan) -> list[list[Step]]:
    """Regroup a plan by image."""
    steps: list[list[Step]] = [[] for _ in range(plan.places.shape[2])]
    for groups, places in zip(plan.groups, plan.places.tolist(), strict=True):
        order, rows, columns = places
        for name, sign, start, stop in groups:
            for place in range(start, stop):
                steps[order[place]].append(Step(name, sign, rows[place], columns[place]))
    return steps


def augment(
    image: Image.Image, steps: Sequence[Step], by_sign: Mapping[int, Mapping[str, Any]]
) -> Image.Image:
    """Apply the operations one after another.

    Args:
        image: RGB image.
        steps: operations to apply.
        by_sign: for the signs 1 and −1, each operation's argument.
    """
    for name, sign, row, column in steps:
        argument = by_sign[sign].get(name)
        if name == "Cutout":
            image = _cutout(image, row, column, int(by_sign[sign][name]))
        else:
            image = _OPERATIONS[name](image, argument)
    return image


def mix_up(image: Image.Image, other: Image.Image, weight: float) -> Image.Image:
    """``weight·image + (1 − weight)·other``."""
    return Image.blend(other, image, weight)


def cut_mix(image: Image.Image, other: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Paste a box (left, upper, right, lower) of the image into the other image."""
    other = other.copy()
    if box[0] < box[2] and box[1] < box[3]:
        other.paste(image.crop(box), box)
    return other


def mixes(drawn: Mix) -> Iterator[Callable[[Image.Image, Image.Image], Image.Image]]:
    """The mixing as one function per example, which takes an image and its partner."""
    for ratio, (top, bottom, left, right), boxed in zip(
        drawn.ratio.tolist(), drawn.boxes.tolist(), drawn.cutmix.tolist(), strict=True
    ):
        if boxed:
            yield partial(cut_mix, box=(left, top, right, bottom))
        else:
            yield partial(mix_up, weight=ratio)


def from_batch(images: UInt8[Tensor, "n 3 h w"]) -> list[Image.Image]:
    """Convert a batch to Pillow images."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def to_batch(images: Sequence[Image.Image]) -> UInt8[Tensor, "n 3 h w"]:
    """Convert Pillow images to a uint8 batch."""
    width, height = images[0].size
    batch = torch.empty(len(images), 3, height, width, dtype=torch.uint8)
    for place, image in enumerate(images):
        batch[place] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return batch


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=_FILL
    )


def _cutout(image: Image.Image, row: int, column: int, pad: int) -> Image.Image:
    image = image.copy()
    image.paste(_FILL, (column - pad, row - pad, column + pad, row + pad))
    return image


def _solarize_add(image: Image.Image, addition: int) -> Image.Image:
    table = [min(255, level + addition) if level < 128 else level for level in range(256)]
    return image.point(table * 3)


_OPERATIONS: dict[str, Callable[[Image.Image, Any], Image.Image]] = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Rotate": lambda image, degrees: image.rotate(
        degrees, Image.Resampling.NEAREST, fillcolor=_FILL
    ),
    "Posterize": ImageOps.posterize,
    "Solarize": ImageOps.solarize,
    "Color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "Contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "Brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "Sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "ShearX": lambda image, shear: _affine(image, (1, shear, 0, 0, 1, 0)),
    "ShearY": lambda image, shear: _affine(image, (1, 0, 0, shear, 1, 0)),
    "TranslateX": lambda image, pixels: _affine(image, (1, 0, pixels, 0, 1, 0)),
    "TranslateY": lambda image, pixels: _affine(image, (1, 0, 0, 0, 1, pixels)),
    "SolarizeAdd": _solarize_add,
}
