"""Your own photographs, a few hundred or thousand, in a directory for each class.

Optimizer, rate and calibration are ours, chosen on 400 photographs of flowers
(docs/experiments/photographs.md).

``DIR/train/CLASS/*.jpg`` are trained on; ``DIR/val/CLASS/*.jpg`` select the weights that are kept;
``DIR/test/CLASS/*.jpg``, if there are any, are looked at once, at the end.

Command:   normfree train folder --data folder:DIR
Hardware:  2 CPU cores
Time:      depends on the images
Expected:  not measured
Source:    not in the paper: its network and preprocessing at a small size, without its optimizer
Status:    unmeasured
"""

from __future__ import annotations

from normfree.recipes.small import SMALL
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

RECIPE = Recipe(
    name="folder",
    data=Data(source="folder:."),
    model=Network(name="nfnet_micro", train_size=96, test_size=128),
).override(
    **{**SMALL, "lr": 0.015},
    calibrate=True,
    epochs=30,
    batch_size=32,
    log_every=10,
)
