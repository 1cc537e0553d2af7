"""Shapes of small networks at about equal time: the frontier behind ``fashion_mnist``.

    FASHION_MNIST=DIR python -m experiments.shapes

Wider networks at half the resolution, and the full resolution of the recipe before, each for as
many epochs as fit in the same time; judged on the last 6,000 training images.
"""

from __future__ import annotations

from typing import Any

from experiments.data import fashion_select
from experiments.short_runs import NANO, OURS
from experiments.study import Study, main


def shape(
    epochs: int, stride: int | list[int], stem: list[int], widths: list[int], **options: Any
) -> dict[str, Any]:
    """The settings of a row; ``options`` are fields of the network's configuration."""
    network = {"stem_stride": stride, "stem_channels": stem, "widths": widths, **options}
    return {"epochs": epochs, "model_options": network}


SECOND = [1, 2, 1, 1]  # the second convolution of the stem strides, not the first
WIDE: dict[str, Any] = {"widths": [64, 128, 256, 256], "group_widths": [32, 64, 64, 64]}

SHAPES = {
    "full resolution, 32 to 192 channels": shape(
        4, 1, [8, 8, 16], [32, 64, 192, 192], group_widths=[16, 32, 48, 48]
    ),
    "64 to 256 channels": shape(8, 2, [16, 32, 32], **WIDE),
    "64 to 256 channels, the second convolution strides": shape(8, SECOND, [8, 16, 32], **WIDE),
    "64 to 160 channels, 6 blocks, the second strides": shape(
        8,
        SECOND,
        [8, 16, 32],
        [64, 160, 160, 160],
        group_widths=[32, 80, 80, 80],
        depths=[1, 2, 2, 1],
        head_multiplier=1.5,
    ),
    "64 to 128 channels, 7 blocks, the second strides": shape(
        10,
        SECOND,
        [8, 16, 32],
        [64, 128, 128, 128],
        group_widths=[32, 64, 64, 64],
        depths=[1, 2, 3, 1],
    ),
}

STUDY = Study(
    name="shapes",
    page="short_runs",
    base=NANO.override(**OURS, shift_from_epochs=2, data=f"idx:{fashion_select()}"),
    variants=SHAPES,
    seeds=1,
)

if __name__ == "__main__":
    main([STUDY], __doc__)
