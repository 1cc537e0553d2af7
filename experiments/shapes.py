"""Shapes of small networks: what behind ``fashion_mnist`` was chosen by.

    FASHION_MNIST=DIR python -m experiments.shapes

Deep ones for some epochs at about equal time (``shapes``), then shallow ones, whose stem keeps the
full resolution for longer, for one epoch (``shapes_1``); judged on the last 6,000 training images.
"""

from __future__ import annotations

from typing import Any

from experiments.data import DATA, fashion_select
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

SHALLOW: dict[str, Any] = {"depths": [1, 1, 1, 1], "se_place": "none"}
THIRD = [1, 1, 2, 1]  # the third convolution of the stem strides
WIDER: dict[str, Any] = {"widths": [96, 96, 128, 128], "group_widths": [48, 48, 64, 64]}

#: One epoch; the last four have one block in each stage.
SHALLOW_SHAPES: dict[str, dict[str, Any]] = {
    "`nfnet_nano`: 6 blocks, the first convolution strides": {},
    "4 blocks, 96 to 128 channels, squeeze-and-excite": shape(
        1, THIRD, [12, 24, 48], **WIDER, depths=[1, 1, 1, 1]
    ),
    "4 blocks, 96 to 128 channels": shape(1, THIRD, [12, 24, 48], **WIDER, **SHALLOW),
    "4 blocks, 48 to 128 channels": shape(
        1, THIRD, [12, 24, 24], [48, 96, 128, 128], group_widths=[24, 48, 64, 64], **SHALLOW
    ),
    "4 blocks, 64 to 128 channels": shape(
        1, THIRD, [16, 32, 32], [64, 128, 128, 128], group_widths=[32, 64, 64, 64], **SHALLOW
    ),
}
HELD_OUT = 6000
BASE = NANO.override(**OURS, data=f"idx:{DATA / f'fashion-select-{HELD_OUT}'}")

STUDIES = [
    Study(
        name="shapes",
        page="short_runs",
        base=BASE.override(shift_from_epochs=2),
        variants=SHAPES,
        seeds=1,
    ),
    Study(
        name="shapes_1",
        page="short_runs",
        base=BASE.override(epochs=1),
        variants=SHALLOW_SHAPES,
        seeds=1,
    ),
]


def prepare() -> None:
    """Write the images."""
    fashion_select(HELD_OUT)


if __name__ == "__main__":
    main(STUDIES, __doc__, prepare)
