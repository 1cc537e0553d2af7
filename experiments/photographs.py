"""A user's folder: 400 photographs of five kinds of flowers, and the settings that suit them.

    PHOTOGRAPHS=DIR python -m experiments.photographs

The recipe ``folder`` is the best of 20 settings (``photographs_choice``), each with one seed,
judged on 100 photographs of each class that are not trained on. Then it meets its batch-normalized
twin on others (``photographs_twin``). No photograph is on two sides.
"""

from __future__ import annotations

from typing import Any

from experiments.data import DATA, photograph_folder
from experiments.study import Study, main
from normfree.recipes import get_recipe

#: Photographs of each class: trained on, and those that judge.
TRAIN, JUDGED = slice(80), {"validation": slice(80, 180), "test": slice(180, 680)}
FOLDERS = {"validation": DATA / "photographs-val", "test": DATA / "photographs-test"}

RATES = (0.0075, 0.015, 0.03, 0.06)
#: The recipe as it was when the grid was run.
BEFORE: dict[str, Any] = {"lr": 0.03, "calibrate": False}
AGC: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9, "clipping": 0.1}
ADAM: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.05}
CALIBRATED: dict[str, Any] = {"calibrate": True}
CHOSEN: dict[str, Any] = CALIBRATED | {"lr": 0.015}
BATCH_NORM: dict[str, Any] = {"model_options": {"normalization": "batch"}}

GRID: dict[str, dict[str, Any]] = {
    **{f"Muon, rate {lr}": {"lr": lr} for lr in RATES},
    **{f"Muon, rate {lr}, calibrated": CALIBRATED | {"lr": lr} for lr in RATES},
    **{f"Muon, rate {lr}, batch 16": {"lr": lr, "batch_size": 16} for lr in (0.01, 0.02)},
    "Muon, rate 0.03, dropout 0.25": {"drop_rate": 0.25, "stochastic_depth_rate": 0.1},
    "Muon, rate 0.03, decay 0.01": {"weight_decay": 0.01},
    **{f"AGC, rate {lr}": AGC | {"base_lr": lr} for lr in (0.05, 0.1, 0.2, 0.4)},
    **{f"AdamW, rate {lr}": ADAM | {"lr": lr} for lr in (0.0005, 0.001, 0.002, 0.004)},
}


def study(name: str, judged: str, variants: dict[str, dict[str, Any]], seeds: int) -> Study:
    """Variants of the recipe ``folder``."""
    base = get_recipe("folder").override(data=f"folder:{FOLDERS[judged]}", **BEFORE)
    return Study(
        name=name, page="photographs", base=base, variants=variants, seeds=seeds, judged=judged
    )


STUDIES = [
    study("photographs_choice", "validation", GRID, 1),
    study(
        "photographs_twin_choice",
        "validation",
        {f"batch-normalized twin, rate {lr}": BATCH_NORM | {"lr": lr} for lr in (0.015, 0.03)},
        1,
    ),
    study(
        "photographs_twin",
        "test",
        {
            "without normalization": CHOSEN,
            "batch-normalized twin": BATCH_NORM | {"lr": 0.015},
        },
        5,
    ),
]


def prepare() -> None:
    """Make the two folders."""
    for judged, directory in FOLDERS.items():
        photograph_folder(directory, TRAIN, JUDGED[judged])


if __name__ == "__main__":
    main(STUDIES, __doc__, prepare)
