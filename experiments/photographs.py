"""The same questions on photographs: augmentation, batch normalization, SAM, transfer.

    python -m experiments.data && python -m experiments.photographs

Twelve landscapes are twelve classes; training and test images are windows of different parts of
them. For transfer, a network is trained on six of the classes and then meets the other six, of
which it has 10 images each.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.augmentation import CUTMIX, MIXUP
from experiments.data import DATA
from experiments.study import Study, main
from normfree.recipes import get_recipe
from normfree.train.config import Recipe
from normfree.train.fit import fit

RANDAUGMENT = {"randaugment_layers": 4, "randaugment_magnitude": 2.0, "quirks": False}
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

#: A network trained on six of the classes meets the other six, with ten images of each.
FIRST = DATA / "first-task"
SECOND_TASK = replace(
    get_recipe("finetune"),
    name="second-task",
    data=f"folder:{DATA / 'photographs-second'}",
    model=PHOTOGRAPHS.model,
    model_options=PHOTOGRAPHS.model_options,
    init=str(FIRST / "model.safetensors"),
    train_size=64,
    test_size=64,
    test_margin=8,
    batch_size=16,
    workers=0,
)
TRANSFER = {
    "from the seed, rate 0.03": {"init": None, "lr": 0.03},
    "from the seed, rate 0.1": {"init": None, "lr": 0.1},
    "fine-tuned, rate 0.003": {"lr": 0.003},
    "fine-tuned, rate 0.01": {"lr": 0.01},
    "fine-tuned, rate 0.03": {"lr": 0.03},
    "fine-tuned, rate 0.1": {"lr": 0.1},
    "fine-tuned, rate 0.03, stem and two stages frozen": {"lr": 0.03, "freeze": 2},
    "fine-tuned, rate 0.03, SAM": {"lr": 0.03} | SAM,
}


def pre_train() -> None:
    """The network that transfer starts from; one for all runs."""
    data = f"folder:{DATA / 'photographs-first'}"
    first = replace(PHOTOGRAPHS, name="first-task", data=data, epochs=30, out=FIRST)
    fit(replace(first, resume=FIRST.exists()))  # a finished run has nothing left to do


STUDIES = [
    Study(name="photographs", page="photographs", base=PHOTOGRAPHS, variants=ROWS),
    Study(name="transfer", page="photographs", base=SECOND_TASK, variants=TRANSFER),
]

if __name__ == "__main__":
    pre_train()
    main(STUDIES, __doc__)
