"""Handwritten digits of 8×8 pixels: the default of ``normfree train``.

Command:   normfree train digits
Hardware:  2 CPU cores
Time:      1 min
Expected:  97 % top-1, EMA
Source:    not in the paper; its whole optimizer on a network and images that are small
Status:    paper
"""

from __future__ import annotations

from normfree.train.config import Recipe

RECIPE = Recipe(
    name="digits",
    data="digits",
    model="nfnet_pico",
    epochs=30,
    batch_size=128,
    base_lr=0.4,
    augment="shift",
    shift_padding=1,
)
