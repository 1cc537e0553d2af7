"""Fashion-MNIST: 60,000 grey images of clothes, 28×28 pixels.

The images are Debian's package ``dataset-fashion-mnist``; elsewhere, give the directory of the four
IDX files by ``--data idx:DIR``.

Command:   normfree train fashion_mnist
Hardware:  2 CPU cores
Time:      15 min
Expected:  92 % top-1, EMA
Source:    not in the paper; its whole optimizer on a network and images that are small
Status:    paper
"""

from __future__ import annotations

from normfree.train.config import Recipe

RECIPE = Recipe(
    name="fashion_mnist",
    data="idx:/usr/share/datasets/fashion-mnist",
    model="nfnet_nano",
    epochs=8,
    batch_size=256,
    base_lr=0.2,
    warmup_epochs=1,
    augment="shift_flip",
    shift_padding=2,
    log_every=50,
)
