"""Your own photographs, a few thousand, from weights that were trained on many more.

``DIR/train/CLASS/*.jpg`` are trained on, ``DIR/val/CLASS/*.jpg`` are the test. ``FILE`` is ours,
timm's or the authors', or ``hf:OWNER/NAME``; ``--model`` is the network it belongs to. The paper
fine-tunes with sharpness-aware minimization, ``--sam-rho 0.05 --sam-fraction 0.2``, which costs
more time.

The figures are those of a small network, with ten photographs of each of six classes, from weights
of six other classes (docs/experiments/photographs.md).

Command:   normfree train finetune --data folder:DIR --model nfnet_f0 --init FILE
Hardware:  2 CPU cores, nfnet_nano at 64 px, 60 photographs
Time:      12 s
Expected:  89.4 ± 0.6 % top-1, EMA, over 3 seeds, nfnet_nano; from the seed 74.3 %
Source:    appendix A.5 of the paper, with a rate for small batches
Status:    measured
"""

from __future__ import annotations

from normfree.train.config import Recipe

RECIPE = Recipe(
    name="finetune",
    data="folder:.",
    model="nfnet_f0",
    init="weights.safetensors",
    epochs=20,
    batch_size=32,
    lr=0.01,
    warmup_epochs=1,
    weight_decay=1e-5,
    clipping="auto",
    drop_rate=0.25,
    stochastic_depth_rate=0.1,
    ema_decay=0.9999,
    augment="crop_flip",
    channels_last=True,
    workers=2,
    log_every=10,
)
