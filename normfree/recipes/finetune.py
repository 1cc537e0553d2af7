"""Your own photographs, a few thousand, from weights that were trained on many more.

``DIR/train/CLASS/*.jpg`` are trained on, ``DIR/val/CLASS/*.jpg`` are the test. ``FILE`` is ours,
timm's or the authors', or ``hf:OWNER/NAME``; ``--model`` is the network it belongs to. The paper
fine-tunes with sharpness-aware minimization, ``--sam-rho 0.05 --sam-fraction 0.2``, which costs
more time.

Command:   normfree train finetune --data folder:DIR --model nfnet_f0 --init FILE
Hardware:  one GPU
Time:      not known
Expected:  not known
Source:    appendix A.5 of the paper, for small batches: not measured yet
Status:    paper
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
