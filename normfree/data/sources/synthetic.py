"""``synthetic:N``: generated patterns, for smoke tests and timing."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int, UInt8
from pydantic import Field

from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import ArraySource, Source, Split
from normfree.errors import UserError
from normfree.random import numpy_generator
from normfree.schema import record

_FORM = (
    "synthetic:N, synthetic:NxSIZE, synthetic:NxSIZExCHANNELS or synthetic:NxSIZExCHANNELSxCLASSES"
)
_SEED = 2102_06171
_IN_MEMORY = 2**26  # bytes per split; images of larger splits are generated on access
_MAX_IMAGE = 2**24  # bytes per image


@record
class Shape:
    """The numbers after ``synthetic:``, in the order of ``NxSIZExCHANNELSxCLASSES``."""

    examples: int = Field(default=256, gt=0, le=2**24)
    size: int = Field(default=32, gt=0, le=2**12)
    channels: int = Field(default=3, gt=0, le=2**12)
    classes: int = Field(default=10, gt=0, le=2**16)


@register_source("synthetic", "N")
def open_synthetic(argument: str, split: Split, opening: Opening) -> Source:
    """Sine waves in noise, one direction per class: learnable, and the same on every machine.

    A split of up to 64 MB is generated at once. The images of a larger split are generated on
    access, so ``synthetic:1000000x192`` needs no more memory than ``synthetic:1000``.

    Args:
        argument: ``N``, ``NxSIZE``, ``NxSIZExCHANNELS`` or ``NxSIZExCHANNELSxCLASSES``: number of
            training images, side in pixels (default 32), channels (3) and classes (10). ``val``
            has a quarter as many images.
        split: ``train`` or ``val``.
        opening: not used.

    Raises:
        UserError: the argument has another form, a number is too large, or there are fewer images
            than classes.

    >>> source = open_synthetic("40x16x1x4", "val", Opening())
    >>> len(source), source.image(0).shape, source.classes
    (10, (16, 16, 1), ('0°', '45°', '90°', '135°'))
    """
    shape = _parsed(argument)
    examples = shape.examples if split == "train" else shape.examples // 4
    if shape.classes < 2 or examples < shape.classes:
        raise UserError(
            f"synthetic:{argument} has {examples} images for {split} in {shape.classes} classes: "
            f"ask for at least {4 * max(shape.classes, 2)} images and 2 classes"
        )
    source = SyntheticSource(examples, shape, split)
    if examples * shape.size**2 * shape.channels > _IN_MEMORY:
        return source
    rng = numpy_generator(_SEED, source.stream)
    pixels = np.empty((examples, shape.size, shape.size, shape.channels), dtype=np.uint8)
    for place in range(examples):
        pixels[place] = source.drawn(place, rng)
    return ArraySource("synthetic", pixels, source.labels, source.classes)


def _parsed(argument: str) -> Shape:
    if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*){0,3}", argument):
        raise UserError(
            f"synthetic:{reprlib.repr(argument)[1:-1]} is not understood: write {_FORM}, "
            "e.g. synthetic:256x64"
        )
    numbers = [int(number) if len(number) < 20 else 10**20 for number in argument.split("x")]
    try:
        shape = Shape(**dict(zip(Shape.__dataclass_fields__, numbers, strict=False)))
    except UserError as error:
        raise UserError(f"synthetic:{reprlib.repr(argument)[1:-1]} is too large: {error}") from None
    if (image := shape.size**2 * shape.channels) > _MAX_IMAGE:
        raise UserError(
            f"synthetic:{argument} is too large: an image would have {image:,} bytes, and the "
            f"limit is {_MAX_IMAGE:,}"
        )
    return shape


@dataclass(frozen=True, eq=False)
class SyntheticSource:
    """Synthetic images, generated on access.

    Args:
        examples: number of images.
        shape: size and channels of the images, and the number of classes.
        split: ``train`` or ``val``, which have different images.
    """

    examples: int
    shape: Shape = field(repr=False)
    split: Split

    @property
    def stream(self) -> int:
        """The random stream of the split."""
        return int(self.split == "val")

    @cached_property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Class index of each image, cycling through the classes."""
        return np.arange(self.examples, dtype=np.int64) % self.shape.classes

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The directions of the waves."""
        count = self.shape.classes
        return tuple(f"{180 * label / count:.4g}°" for label in range(count))

    @property
    def channels(self) -> int:
        """Channels per image."""
        return self.shape.channels

    def __len__(self) -> int:
        return self.examples

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Image ``index``, a function of the split and the index alone."""
        return self.drawn(index, numpy_generator(_SEED, self.stream, index))

    def drawn(self, index: int, rng: np.random.Generator) -> UInt8[np.ndarray, "h w c"]:
        """An image of the class of ``index``, with random wavelength, phases and noise."""
        turn = (index % self.shape.classes) / self.shape.classes
        return _wave(turn, self.shape.size, self.shape.channels, rng)

    def name(self, index: int) -> str:
        """``synthetic[index]``."""
        return f"synthetic[{index}]"


def _wave(
    turn: float, size: int, channels: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "size size channels"]:
    """A noisy sine wave at an angle of ``turn · 180°``, with a wavelength of 4 to 8 pixels."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    along: Float32[np.ndarray, "size size"] = np.cos(np.pi * turn) * x + np.sin(np.pi * turn) * y
    length = rng.uniform(4, 8)
    phase = rng.uniform(0, 2 * np.pi, channels)
    wave = np.sin(2 * np.pi / length * along[..., None] + phase)
    noise = rng.standard_normal(wave.shape)
    return np.clip(128 + 50 * wave + 25 * noise, 0, 255).astype(np.uint8)
