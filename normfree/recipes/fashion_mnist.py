"""Fashion-MNIST: 60,000 gray images of clothes, 28×28 pixels.

The images are Debian's package ``dataset-fashion-mnist``; elsewhere, give the directory of the four
IDX files by ``--data idx:DIR``. The network is ``nfnet_nano`` with one block in each stage and a
stem that keeps the resolution for longer; optimizer, rate and length are ours
(docs/experiments/short_runs.md).

Command:   normfree train fashion_mnist
Hardware:  2 CPU cores with AVX-512
Time:      12 min; an epoch is 39 s and 3 s of evaluation
Expected:  94.0 and 94.3 % top-1 on the 10,000 images of t10k, averaged weights, two runs
Source:    not in the paper: its network at a small size, without its optimizer
Status:    measured
Result:    benchmarks/results/2026-11-27_train_fashion_mnist.json
"""

from __future__ import annotations

from normfree.recipes.small import SMALL
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

RECIPE = Recipe(
    name="fashion_mnist",
    data=Data(source="idx:/usr/share/datasets/fashion-mnist"),
    model=Network(
        name="nfnet_nano",
        options={
            "stem_stride": [1, 1, 2, 1],
            "stem_channels": [16, 32, 32],
            "widths": [64, 128, 128, 128],
            "group_widths": [32, 64, 64, 64],
            "depths": [1, 1, 1, 1],
            "se_place": "none",
        },
    ),
).override(
    **SMALL,
    adam_ratio=0.3,
    calibrate=True,
    epochs=17,
    batch_size=128,
    augment="shift_flip",
    shift_padding=2,
    shift_from_epochs=3,
    log_every=50,
)
