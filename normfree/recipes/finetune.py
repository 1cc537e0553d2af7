"""Your own photographs, a few thousand, from weights that were trained on many more.

``DIR/train/CLASS/*.jpg`` are trained on; ``DIR/val/CLASS/*.jpg`` select the weights that are kept;
``DIR/test/CLASS/*.jpg``, if there are any, are looked at once, at the end. ``FILE`` is ours, timm's
or the authors', or ``hf:OWNER/NAME``; ``--model`` is the network it belongs to. The paper
fine-tunes with sharpness-aware minimization, ``--sam-rho 0.05 --sam-fraction 0.2``.

Command:   normfree train finetune --data folder:DIR --model nfnet_f0 --init FILE
Hardware:  any
Time:      depends on the images
Expected:  not measured
Source:    appendix A.5 of the paper, with a rate for small batches
Status:    unmeasured
"""

from __future__ import annotations

from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

RECIPE = Recipe(
    name="finetune",
    data=Data(source="folder:.", workers=2),
    model=Network(
        name="nfnet_f0", init="weights.safetensors", drop_rate=0.25, stochastic_depth_rate=0.1
    ),
).override(
    epochs=20,
    batch_size=32,
    lr=0.01,
    warmup_epochs=1,
    weight_decay=1e-5,
    clipping="auto",
    ema_decay=0.9999,
    channels_last=True,
    log_every=10,
)
