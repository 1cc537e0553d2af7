"""Your own photographs, a few hundred or thousand, in a directory for each class.

``DIR/train/CLASS/*.jpg`` are trained on, ``DIR/val/CLASS/*.jpg`` are the test.

Command:   normfree train folder --data folder:DIR
Hardware:  2 CPU cores
Time:      varies
Expected:  varies
Source:    not in the paper; its whole optimizer and preprocessing at a smaller size
Status:    paper
"""

from __future__ import annotations

from normfree.train.config import Recipe

RECIPE = Recipe(
    name="folder",
    data="folder:.",
    model="nfnet_micro",
    train_size=64,
    test_size=80,
    test_margin=10,
    epochs=60,
    batch_size=32,
    base_lr=0.4,
    augment="crop_flip",
    on_bad_image="error",
    log_every=10,
)
