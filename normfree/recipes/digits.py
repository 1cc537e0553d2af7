"""Handwritten digits of 8×8 pixels: the default of ``normfree train``.

The optimizer is ours, for few steps; the choice is in docs/experiments/short_runs.md.

Command:   normfree train digits
Hardware:  one thread of 2 CPU cores that were busy with other work
Time:      16 to 32 s
Expected:  99.2 to 99.7 % top-1 on the validation images, averaged weights, over 5 seeds
Source:    not in the paper: its network at a small size, without its optimizer
Status:    measured
Result:    benchmarks/results/2026-11-26_train_digits_muon.json
"""

from __future__ import annotations

from normfree.recipes.small import SMALL
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

RECIPE = Recipe(
    name="digits",
    data=Data(source="digits"),
    model=Network(name="nfnet_pico"),
).override(
    **{**SMALL, "lr": 0.015},
    epochs=30,
    batch_size=64,
    augment="shift",
    shift_padding=1,
)
