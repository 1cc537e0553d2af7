"""The same questions on photographs: augmentation, batch normalization, SAM, transfer.

    python -m experiments.data && python -m experiments.photographs

Twelve landscapes are twelve classes; training and test pictures are windows of different parts of
them. For transfer, a network is trained on six of the classes and then meets the other six, of
which it has 10 pictures each.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from experiments.augmentation import CUTMIX, MIXUP
from experiments.data import DATA
from experiments.study import Study, main
from normfree.train.config import Recipe
from normfree.train.fit import fit

RANDAUGMENT = {"randaugment_layers": 4, "randaugment_magnitude": 2.0}
PHOTOGRAPHS = Recipe(
    name="photographs",
    data=f"folder:{DATA / 'photographs'}",
    model="nfnet_nano",
    model_options=("stem_stride=4",),
    train_size=64,
    test_size=64,
    test_margin=8,
    epochs=20,
    batch_size=32,
    base_lr=0.4,
    warmup_epochs=2,
    clipping=0.1,
    augment="crop_flip",
    channels_last=True,
)
TWIN = {"model_options": ("stem_stride=4", "normalization=batch"), "clipping": None}
SAM = {"sam_rho": 0.05, "sam_fraction": 0.2}

ROWS = {
    "baseline: crop and flip": {},
    "+ MixUp": MIXUP,
    "+ RandAugment": MIXUP | RANDAUGMENT,
    "+ CutMix": CUTMIX | RANDAUGMENT,
    "baseline, SAM with 20 % of the batch": SAM,
    "batch-normalized twin, baseline": TWIN,
}

FIRST = DATA / "first-task"
SECOND_TASK = replace(
    PHOTOGRAPHS,
    name="second-task",
    data=f"folder:{DATA / 'photographs-second'}",
    epochs=30,
    batch_size=16,
)
GENTLE = {"base_lr": 0.1, "ema_decay": 0.9999, "init": str(FIRST / "model.safetensors")}
TRANSFER = {
    "from the seed": {},
    "fine-tuned": GENTLE,
    "fine-tuned, stem and two stages frozen": GENTLE | {"freeze": 2},
    "fine-tuned with SAM": GENTLE | SAM,
}


def pre_train() -> None:
    """The network that transfer starts from; one for all runs."""
    if not (FIRST / "model.safetensors").exists():
        first = Path(f"{DATA / 'photographs-first'}")
        fit(replace(PHOTOGRAPHS, name="first-task", data=f"folder:{first}", epochs=30, out=FIRST))


STUDIES = [
    Study(name="photographs", page="photographs", base=PHOTOGRAPHS, variants=ROWS),
    Study(name="transfer", page="photographs", base=SECOND_TASK, variants=TRANSFER),
]

if __name__ == "__main__":
    pre_train()
    main(STUDIES, __doc__)
