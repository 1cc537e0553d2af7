"""Your own photographs, a few hundred or thousand, in a directory for each class.

``DIR/train/CLASS/*.jpg`` are trained on, ``DIR/val/CLASS/*.jpg`` are the test. The figures are
those of the folder that ``examples/photo_folder.py`` makes: 12 classes, 1,200 and 360 images.

Command:   normfree train folder --data folder:DIR
Hardware:  2 CPU cores
Time:      10 s an epoch
Expected:  93 % top-1, EMA, at epoch 28 of 30
Source:    not in the paper; its whole optimizer and preprocessing at a smaller size
Status:    measured
"""

from __future__ import annotations

from normfree.train.config import Recipe

RECIPE = Recipe(
    name="folder",
    data="folder:.",
    model="nfnet_micro",
    train_size=96,
    test_size=128,
    test_margin=16,
    epochs=30,
    batch_size=32,
    base_lr=0.4,
    clipping=0.1,
    augment="crop_flip",
    on_bad_image="error",
    channels_last=True,
    log_every=10,
)
