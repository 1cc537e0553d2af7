"""Handwritten digits of 8×8 pixels: the default of ``normfree train``.

Small batches want a larger λ than the paper's 0.01 (figure 2).

Command:   normfree train digits
Hardware:  2 CPU cores
Time:      0.5 min
Expected:  98.6 to 99.2 % top-1 on the validation images, averaged weights, over 3 seeds
Source:    not in the paper; its whole optimizer on a network and images that are small
Status:    measured
Result:    benchmarks/results/2026-11-22_train_digits.json
"""

from __future__ import annotations

from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

RECIPE = Recipe(
    name="digits",
    data=Data(source="digits"),
    model=Network(name="nfnet_pico"),
).override(
    epochs=30,
    batch_size=128,
    base_lr=0.4,
    clipping=0.1,
    augment="shift",
    shift_padding=1,
    channels_last=True,
)
