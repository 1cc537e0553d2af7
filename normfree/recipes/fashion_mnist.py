"""Fashion-MNIST: 60,000 gray images of clothes, 28×28 pixels.

The images are Debian's package ``dataset-fashion-mnist``; elsewhere, give the directory of the four
IDX files by ``--data idx:DIR``. The network is ``nfnet_nano`` at full resolution, wider where maps
are small; optimizer, rate and length are ours (docs/experiments/short_runs.md).

Command:   normfree train fashion_mnist
Hardware:  one thread of 2 CPU cores that were busy with other work
Time:      22 min at the speed of the last four epochs; earlier ones lost time to a leak of memory
Expected:  93.6 % top-1 on the 10,000 images of t10k, averaged weights, one run
Source:    not in the paper: its network at a small size, without its optimizer
Status:    measured
Result:    benchmarks/results/2026-11-26_train_fashion_mnist_muon.json
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
            "stem_stride": 1,
            "stem_channels": [8, 8, 16],
            "widths": [32, 64, 192, 192],
            "group_widths": [16, 32, 48, 48],
        },
    ),
).override(
    **SMALL,
    epochs=9,
    batch_size=128,
    augment="shift_flip",
    shift_padding=2,
    shift_from_epochs=3,
    log_every=50,
)
