"""What MixUp, RandAugment and CutMix add, one after the other: the shape of table 2.

    python -m experiments.data && python -m experiments.augmentation

The paper adds them to F0…F3 on ImageNet, 360 epochs, where the network would otherwise overfit.
Here a small network sees 1,000 small images 120 times, so there is something to overfit too.

The operations are the clean ones: the authors' code, made for magnitudes of 5 to 15, posterizes to
black below 2.5 and takes nearly all contrast and color below 2, while Cutout's absolute pixels and
28×28 images want a magnitude near 1.
"""

from __future__ import annotations

from typing import Any

from experiments.data import DATA
from experiments.study import Study, main
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

MIXUP: dict[str, Any] = {"mixing": "mixup"}
RANDAUGMENT: dict[str, Any] = {
    "randaugment_layers": 4,
    "randaugment_magnitude": 1.0,
    "quirks": False,
}
CUTMIX: dict[str, Any] = {"mixing": "mixup_cutmix"}
IN_BATCH: dict[str, Any] = {"pairing": "in_batch"}
TWIN: dict[str, Any] = {
    "model_options": {"stem_stride": 2, "normalization": "batch"},
    "clipping": None,
}

ROWS: dict[str, dict[str, Any]] = {
    "baseline: shift and flip": {},
    "+ MixUp": MIXUP,
    "+ RandAugment": MIXUP | RANDAUGMENT,
    "+ CutMix": CUTMIX | RANDAUGMENT,
    "the same, paired within the batch": CUTMIX | RANDAUGMENT | IN_BATCH,
    "batch-normalized twin, baseline": TWIN,
    "batch-normalized twin, + CutMix": TWIN | CUTMIX | RANDAUGMENT,
}

FASHION = Recipe(
    name="fashion-4000",
    data=Data(source=f"idx:{DATA / 'fashion-4000'}"),
    model=Network(
        name="nfnet_pico",
        options={"stem_stride": 2},
        train_size=28,
        test_size=28,
        stochastic_depth_rate=0.05,
    ),
).override(
    epochs=30,
    batch_size=128,
    base_lr=0.4,
    warmup_epochs=2,
    clipping=0.1,
    augment="shift_flip",
    shift_padding=2,
    channels_last=True,
)

STUDIES = [
    Study(
        name="augmentation_fashion",
        page="augmentation",
        base=FASHION.override(data=f"idx:{DATA / 'fashion-1000'}", epochs=120, warmup_epochs=5),
        variants=ROWS,
    ),
]

if __name__ == "__main__":
    main(STUDIES, __doc__)
