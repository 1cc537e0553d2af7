"""``synthetic:N``: patterns that need no files, for smoke tests and for timing."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float32, UInt8

from normfree.data.sources.source import ArraySource, Split
from normfree.errors import UserError
from normfree.random import numpy_generator

_FORM = (
    "synthetic:N, synthetic:NxSIZE, synthetic:NxSIZExCHANNELS or synthetic:NxSIZExCHANNELSxCLASSES"
)
_DEFAULTS = (256, 32, 3, 10)
_SEED = 2102_06171


def open_synthetic(spec: str, split: Split) -> ArraySource:
    """Waves in noise, one direction a class: learnable, and the same on every machine.

    Args:
        spec: ``N``, ``NxSIZE``, ``NxSIZExCHANNELS`` or ``NxSIZExCHANNELSxCLASSES``: number of
            training images, side in pixels (32), channels (3) and classes (10). ``val`` has a
            quarter as many images.
        split: ``train`` or ``val``.

    Raises:
        UserError: if the description has another form, or there are fewer images than classes.

    >>> source = open_synthetic("40x16x1x4", "val")
    >>> len(source), source.image(0).shape, source.classes
    (10, (16, 16, 1), ('0°', '45°', '90°', '135°'))
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){0,3}", spec):
        raise UserError(f"synthetic:{spec} is not understood: write {_FORM}, e.g. synthetic:256x64")
    numbers = [int(number) for number in spec.split("x")]
    examples, size, channels, classes = (*numbers, *_DEFAULTS[len(numbers) :])
    examples = examples if split == "train" else examples // 4
    if classes < 2 or examples < classes:
        raise UserError(
            f"synthetic:{spec} has {examples} images for {split} in {classes} classes: "
            f"ask for at least {4 * max(classes, 2)} images and 2 classes"
        )
    labels = np.arange(examples, dtype=np.int64) % classes
    rng = numpy_generator(_SEED, int(split == "val"))
    pixels = np.stack([_wave(label / classes, size, channels, rng) for label in labels])
    names = tuple(f"{180 * label / classes:.4g}°" for label in range(classes))
    return ArraySource("synthetic", pixels, labels, names)


def _wave(
    turn: float, size: int, channels: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "size size channels"]:
    """A wave of four pixels or more that runs at ``turn`` half-turns, in noise."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    along: Float32[np.ndarray, "size size"] = np.cos(np.pi * turn) * x + np.sin(np.pi * turn) * y
    length = rng.uniform(4, 8)
    phase = rng.uniform(0, 2 * np.pi, channels)
    wave = np.sin(2 * np.pi / length * along[..., None] + phase)
    noise = rng.standard_normal(wave.shape)
    return np.clip(128 + 50 * wave + 25 * noise, 0, 255).astype(np.uint8)
