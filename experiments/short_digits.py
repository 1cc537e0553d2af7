"""Scikit-learn's digits: 1,442 images of 8×8 pixels, in the seconds of a first try.

    python -m experiments.short_digits

Settings are chosen on the last 360 of the training images; the validation images are looked at by
the last study alone.
"""

from __future__ import annotations

from typing import Any

from experiments.data import digits_select
from experiments.study import Study, main
from normfree.recipes.small import SMALL
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

BEFORE = Recipe(
    name="digits_before", data=Data(source="digits"), model=Network(name="nfnet_pico")
).override(
    epochs=30,
    batch_size=128,
    base_lr=0.4,
    clipping=0.1,
    augment="shift",
    shift_padding=1,
    channels_last=True,
)
MUON = {**SMALL, "batch_size": 64}
TWIN: dict[str, Any] = {"model_options": {"normalization": "batch"}}

#: Rate, batch and length, at about equal cost.
CHOICES: dict[str, dict[str, Any]] = {
    "AGC, batch 128, 30 epochs": {},
    "Muon, batch 64, 30 epochs, rate 0.03": MUON,
    "Muon, batch 64, 30 epochs, rate 0.015": MUON | {"lr": 0.015},
    "Muon, batch 128, 45 epochs, rate 0.03": MUON | {"batch_size": 128, "epochs": 45},
    "Muon, batch 128, 45 epochs, rate 0.06": MUON | {"batch_size": 128, "epochs": 45, "lr": 0.06},
    "Muon, batch 32, 20 epochs, rate 0.02": MUON | {"batch_size": 32, "epochs": 20, "lr": 0.02},
}
CHOSEN = MUON | {"lr": 0.015}

STUDIES = [
    Study(
        name="digits_choice",
        page="short_runs",
        base=BEFORE.override(data=f"idx:{digits_select()}"),
        variants=CHOICES,
        seeds=3,
    ),
    Study(
        name="digits_twin",
        page="short_runs",
        base=BEFORE,
        variants={
            "AGC": {},
            "AGC's twin": TWIN | {"clipping": None},
            "Muon": CHOSEN,
            "Muon's twin": CHOSEN | TWIN,
        },
        seeds=5,
    ),
]

if __name__ == "__main__":
    main(STUDIES, __doc__)
