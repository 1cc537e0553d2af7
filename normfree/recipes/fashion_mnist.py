"""Fashion-MNIST: 60,000 gray images of clothes, 28×28 pixels.

The images are Debian's package ``dataset-fashion-mnist``; elsewhere, give the directory of the four
IDX files by ``--data idx:DIR``. Small batches want a larger λ than the paper's 0.01 (figure 2).

Command:   normfree train fashion_mnist
Hardware:  2 CPU cores
Time:      13 min
Expected:  92.3 % top-1 on the 10,000 images of t10k, averaged weights, one run
Source:    not in the paper; its whole optimizer on a network and images that are small
Status:    measured
Result:    benchmarks/results/2026-11-22_train_fashion_mnist.json
"""

from __future__ import annotations

from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

RECIPE = Recipe(
    name="fashion_mnist",
    data=Data(source="idx:/usr/share/datasets/fashion-mnist"),
    model=Network(name="nfnet_nano", stochastic_depth_rate=0.05),
).override(
    epochs=13,
    batch_size=256,
    base_lr=0.4,
    warmup_epochs=1,
    clipping=0.1,
    augment="shift_flip",
    shift_padding=2,
    channels_last=True,
    log_every=50,
)
