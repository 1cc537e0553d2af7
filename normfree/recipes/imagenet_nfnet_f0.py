"""NFNet-F0 on ImageNet: the paper's optimizer, schedule and sizes, value for value.

Without the paper's MixUp, CutMix and RandAugment, which are not built yet: the accuracy below is
the paper's *with* them, and this recipe will not reach it. ``--accumulate`` makes the batch of 4096
fit into the memory of one device.

Command:   normfree train imagenet_nfnet_f0 --data folder:DIR
Hardware:  many accelerators
Time:      not known
Expected:  83.6 % top-1
Source:    table 3 of the paper, row NFNet-F0
Status:    paper
"""

from __future__ import annotations

from normfree.train.config import Recipe

RECIPE = Recipe(
    name="imagenet_nfnet_f0",
    data="folder:imagenet",
    model="nfnet_f0",
    num_classes=1000,
    epochs=360,
    batch_size=4096,
    base_lr=0.1,
    warmup_epochs=5,
    momentum=0.9,
    nesterov=True,
    weight_decay=2e-5,
    clipping=0.01,
    agc_eps=1e-3,
    label_smoothing=0.1,
    ema_decay=0.99999,
    drop_rate=0.2,
    stochastic_depth_rate=0.25,
    activation="gelu",
    train_size=192,
    test_size=256,
    test_margin=32,
    augment="crop_flip",
    precision="bfloat16",
    channels_last=True,
    workers=16,
    log_every=100,
)
