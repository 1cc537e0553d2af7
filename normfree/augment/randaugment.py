"""RandAugment: each image its own random operations, whole batches at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Int, Int64, Shaped, UInt8
from torch import Tensor

from normfree.augment import geometry, native, operations
from normfree.augment.geometry import MOVES
from normfree.augment.operations import chunk_length
from normfree.errors import UserError
from normfree.random import uniform

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
"""The names of the operations, in the order in which the authors number them."""

SIGNED = MOVES
"""Those that go either way."""

_STREAM = 0x52414E44  # "RAND": far from the small numbers that a network's layers use
_DRAWS = 4  # an image's numbers for one layer: operation, sign, row, column
_ENHANCE = ("Color", "Contrast", "Brightness", "Sharpness")
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "AutoContrast": operations.auto_contrast,
    "Equalize": operations.equalize,
    "Invert": operations.invert,
    "Rotate": geometry.rotate,
    "Posterize": operations.posterize,
    "Solarize": operations.solarize,
    "Color": operations.color,
    "Contrast": operations.contrast,
    "Brightness": operations.brightness,
    "Sharpness": operations.sharpness,
    "ShearX": geometry.shear_x,
    "ShearY": geometry.shear_y,
    "TranslateX": geometry.translate_x,
    "TranslateY": geometry.translate_y,
    "Cutout": operations.cutout,
    "SolarizeAdd": operations.solarize_add,
}
_WORDS = (torch.complex128, torch.int64, torch.int32, torch.int16, torch.uint8)
#: The argument with which an operation does nothing.
_NEUTRAL = {
    **dict.fromkeys((*SIGNED, "Cutout", "SolarizeAdd"), 0),
    **dict.fromkeys(_ENHANCE, 1),
    "Posterize": 8,
    "Solarize": 256,
}


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
    share = magnitude / 10
    found: dict[str, float] = {
        "Rotate": sign * (share * 30),
        "Posterize": min(8, int(share * 4)),
        "Solarize": int(share * 256) % 256,
        **dict.fromkeys(_ENHANCE, share * 1.8 + 0.1),
        **dict.fromkeys(("ShearX", "ShearY"), sign * (share * 0.3)),
        **dict.fromkeys(("TranslateX", "TranslateY"), sign * (share * 100)),
        "Cutout": int(share * 40),
        "SolarizeAdd": int(share * 110),
    }
    if not quirks:
        found |= {
            "Posterize": max(1, 8 - round(share * 4)),
            "Solarize": max(0, 256 - int(share * 256)),
            **dict.fromkeys(_ENHANCE, max(0.1, 1 + sign * (share * 0.9))),
            "TranslateX": sign * (share * 0.45 * width),
            "TranslateY": sign * (share * 0.45 * height),
        }
    return found


class Group(NamedTuple):
    """The images of one layer that meet the same operation with the same sign.

    Attributes:
        operation: its name.
        sign: 1 or −1; 1 for operations that have none.
        start: of the images, in the layer's order.
        stop: one after the last.
    """

    operation: str
    sign: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """What will happen to each image of a batch.

    Attributes:
        height: of the images, pixels.
        width: of the images, pixels.
        groups: of each layer.
        places: of each layer, the images in the order of its groups, and beside each the row and
            the column of the centre that Cutout would take.
    """

    height: int
    width: int
    groups: tuple[tuple[Group, ...], ...]
    places: Int64[Tensor, "layers 3 n"]

    def to(self, device: torch.device | str) -> Plan:
        """The plan with its tensor on a device; nothing waits for the upload."""
        places = self.places
        if torch.device(device).type == "cuda":
            places = places.pin_memory()
        return replace(self, places=places.to(device, non_blocking=True))


@dataclass(frozen=True)
class RandAugment:
    """In each layer, each image meets one of 16 operations, all equally likely.

    The strength is constant; rotations, shears and translations go either way. What happens to an
    image follows from its key, and not from the batch it is in or its place there.

    With ``quirks``, every byte is what the authors' code computes. Without:

    - *Posterize* keeps ``8 − round(4·level/10)`` bits (torchvision's rule), at least one: stronger
      with the level. Theirs keeps ``int(4·level/10)``, weaker with the level.
    - *Solarize* inverts from ``256 − int(256·level/10)`` upwards (timm's SolarizeIncreasing), at
      least 0. Theirs inverts from ``int(256·level/10)`` modulo 256: at level 10 all, at 15 what 5
      does.
    - *Color, Contrast, Brightness, Sharpness* have the factor ``1 ± 0.9·level/10`` (timm's
      Increasing), at least 0.1. Theirs have ``0.1 + 1.8·level/10``: at level 5, that is 1 and
      nothing happens.
    - *Contrast* turns about the mean of the grey image. Theirs, about ``min(255, h·w/256)``.
    - *TranslateX, TranslateY* move by ``0.45·level/10`` of the image's side (timm's relative rule).
      Theirs, by ``100·level/10`` pixels, however small the image.

    At level 0, then, only AutoContrast, Equalize and Invert do anything.

    Attributes:
        layers: operations an image meets, one after the other.
        magnitude: the level. 10 is what the rules were made for; more goes on along their lines.
        quirks: whether to follow the authors' code to the letter.

    Example:
        >>> augment, keys = RandAugment(layers=2, magnitude=10), torch.tensor([1, 2, 3])
        >>> images = torch.arange(108, dtype=torch.uint8).view(3, 1, 6, 6)
        >>> plan = augment.draw(keys, height=6, width=6)
        >>> augment(images, plan).shape
        torch.Size([3, 1, 6, 6])

    Source: Cubuk et al. (2019), *RandAugment*; the authors' ``autoaugment.py``. NFNet-F0 is trained
    with four layers of level 5, F1 and F2 of 10, F3 and larger of 15.

    Differs from: timm, which skips each operation with probability ½ and draws the strength anew;
    torchvision's of batches, which does the same to all images of a batch.
    """

    layers: int
    magnitude: float
    quirks: bool = True

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise UserError(f"RandAugment needs 0 or more layers, not {self.layers}")
        if not 0 <= self.magnitude < float("inf"):
            raise UserError(f"RandAugment's magnitude is 0 or more, not {self.magnitude}")

    def draw(self, keys: Int[Tensor, " n"], height: int, width: int) -> Plan:
        """Draw what will happen to each image.

        Args:
            keys: one an image, on the host.
            height: of the images, pixels.
            width: of the images, pixels.
        """
        numbers = uniform(keys, _STREAM, _DRAWS * self.layers).view(len(keys), self.layers, _DRAWS)
        bounds = torch.tensor([len(OPERATIONS), 2, height, width])
        kinds, signs, rows, columns = (numbers * bounds).long().permute(2, 1, 0)
        signed = SIGNED if self.quirks else (*SIGNED, *_ENHANCE)
        codes = 2 * kinds + signs * torch.tensor([name in signed for name in OPERATIONS])[kinds]
        codes, order = codes.sort(dim=1, stable=True)
        places = torch.stack([order, rows.gather(1, order), columns.gather(1, order)], dim=1)
        return Plan(height, width, tuple(map(_groups, codes)), places)

    def apply(self, images: UInt8[Tensor, "n c h w"], plan: Plan) -> UInt8[Tensor, "n c h w"]:
        """Carry out a plan.

        Nothing waits for the device, and no loop goes over the images. On a CPU compiled kernels do
        the same, if :func:`normfree.augment.native.available`.

        Args:
            images: bytes; they stay as they are.
            plan: for as many images of this size, on the same device.

        Returns:
            New bytes, or the images themselves if no operation does anything.
        """
        n, _, height, width = images.shape
        if (n, height, width) != (plan.places.shape[2], plan.height, plan.width):
            raise UserError(
                f"the plan is for {plan.places.shape[2]} images of {plan.height}×{plan.width} "
                f"pixels, but there are {n} of {height}×{width}; draw one for these"
            )
        compiled = images.device.type == "cpu" and images.numel() and native.available()
        return (self._apply_compiled if compiled else self._apply)(images, plan)

    __call__ = apply

    def _apply(self, images: UInt8[Tensor, "n c h w"], plan: Plan) -> UInt8[Tensor, "n c h w"]:
        """By PyTorch's operations."""
        steps = self._steps(plan.height, plan.width)
        result = images
        for groups, places in zip(plan.groups, plan.places.unbind(), strict=True):
            for name, sign, start, stop in groups:
                if (step := steps[_code(name, sign)]) is None:
                    continue
                if result is images:
                    result = images.clone(memory_format=torch.contiguous_format)
                order, *centers = places[:, start:stop].unbind()
                centers = centers if name == "Cutout" else []
                _change(result, self._function(*step), order, *centers)
        return result

    def _apply_compiled(
        self, images: UInt8[Tensor, "n c h w"], plan: Plan
    ) -> UInt8[Tensor, "n c h w"]:
        """By kernels, image by image."""
        operations = _for_kernels(self, plan.height, plan.width)
        groups = [group for layer in plan.groups for group in layer]
        codes = [_code(group.operation, group.sign) for group in groups]
        if not any(operations.active[code] for code in codes):
            return images
        counts = torch.tensor([group.stop - group.start for group in groups])
        order, *centers = plan.places.unbind(1)
        ordered = (torch.tensor(codes).repeat_interleave(counts).view_as(order), *centers)
        of_images = (torch.empty_like(order).scatter_(1, order, x) for x in ordered)
        return native.randaugment(images, operations, *of_images)

    def _steps(self, height: int, width: int) -> list[tuple[str, Any] | None]:
        """Each code's operation and argument, for images of this size; None if it does nothing."""
        steps: list[tuple[str, Any] | None] = []
        for name in OPERATIONS:
            for sign in (1, -1):
                given = arguments(self.magnitude, sign, height, width, quirks=self.quirks)
                argument = given.get(name)
                neutral = argument is not None and argument == _NEUTRAL[name]
                steps.append(None if neutral else (name, argument))
        return steps

    def _function(self, name: str, argument: Any) -> Callable[..., Tensor]:
        """An operation of given strength: a function of images, and for Cutout of centres."""
        match name:
            case "Cutout":
                return partial(operations.cutout, pad=argument)
            case "Contrast":
                return partial(operations.contrast, factor=argument, quirks=self.quirks)
        function = _FUNCTIONS[name]
        return function if argument is None else lambda images: function(images, argument)


@lru_cache(maxsize=16)
def _for_kernels(augment: RandAugment, height: int, width: int) -> native.Operations:
    """The operations as kernels take them."""
    steps = augment._steps(height, width)
    return native.Operations(steps, height, width, quirks=augment.quirks)


def _code(name: str, sign: int) -> int:
    """The number of an operation that goes one way."""
    return 2 * OPERATIONS.index(name) + (sign < 0)


def _groups(codes: Int64[Tensor, " n"]) -> tuple[Group, ...]:
    """Runs of equal codes, as groups."""
    found, counts = codes.unique_consecutive(return_counts=True)
    stops = counts.cumsum(0).tolist()
    return tuple(
        Group(OPERATIONS[code // 2], 1 - 2 * (code % 2), start, stop)
        for code, start, stop in zip(found.tolist(), [0, *stops], stops, strict=False)
    )


def _change(
    images: UInt8[Tensor, "n c h w"],
    function: Callable[..., Tensor],
    order: Int64[Tensor, " k"],
    *centers: Int64[Tensor, " k"],
) -> None:
    """Put ``function(image, *center)`` in the place of each chosen image."""
    words, length = _words(images), chunk_length(images)
    for start in range(0, len(order), length):
        part = slice(start, start + length)
        chosen = order[part]
        changed = function(images.index_select(0, chosen), *(center[part] for center in centers))
        words.index_copy_(0, chosen, _words(changed))


def _words(images: UInt8[Tensor, "n c h w"]) -> Shaped[Tensor, "n words"]:
    """The images in words as long as they divide into, for copying goes word by word."""
    lines = images.view(len(images), -1)
    length = lines.shape[1]
    return lines.view(next(word for word in _WORDS if length % word.itemsize == 0))
