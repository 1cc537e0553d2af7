"""A user's first folder: 400 images as PNG files, 40 a class, and the settings that suit them.

    FASHION_MNIST=DIR python -m experiments.short_folder

The images are of Fashion-MNIST, and the network is that of the recipe ``folder`` at 48 pixels. The
settings are chosen on 1,000 of the last 6,000 training images.
"""

from __future__ import annotations

from typing import Any

from experiments.data import fashion_folder
from experiments.study import Study, main
from normfree.recipes.small import SMALL
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

#: The recipe ``folder`` as it was.
BEFORE = Recipe(
    name="folder",
    data=Data(source=f"folder:{fashion_folder()}"),
    model=Network(name="nfnet_micro", train_size=48, test_size=48),
).override(epochs=30, batch_size=32, base_lr=0.4, clipping=0.1, channels_last=True)

MUON: dict[str, Any] = {**SMALL}
CALIBRATED: dict[str, Any] = {**SMALL, "calibrate": True}

CHOICES: dict[str, dict[str, Any]] = {
    "AGC, rate 0.4": {},
    "Muon, rate 0.03": MUON,
    "Muon, rate 0.03, calibrated": CALIBRATED,
    "Muon, rate 0.015, calibrated": CALIBRATED | {"lr": 0.015},
    "Muon, rate 0.02, calibrated, three times Adam's rate": CALIBRATED
    | {"lr": 0.02, "adam_ratio": 0.3},
    "Muon, rate 0.015": MUON | {"lr": 0.015},
    "AGC, rate 0.1": {"base_lr": 0.1},
    "Muon, rate 0.03, calibrated, batch 16": CALIBRATED | {"batch_size": 16},
    "Muon, rate 0.03, calibrated, 60 epochs": CALIBRATED | {"epochs": 60},
}

STUDIES = [
    Study(
        name="folder_choice",
        page="short_runs",
        base=BEFORE,
        variants=CHOICES,
        seeds=1,
    )
]

if __name__ == "__main__":
    main(STUDIES, __doc__)
