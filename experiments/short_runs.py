"""What a network without normalization learns in a few epochs, beside its twin.

    FASHION_MNIST=DIR python -m experiments.short_runs

The settings were chosen on a part of the training images (``experiments/short_search.py``); here
they meet the test images of ``t10k``. Runs that are stored are not run again, so that it can be
stopped and started at any time.
"""

from __future__ import annotations

from typing import Any

from experiments.data import FASHION
from experiments.study import Study, main
from normfree.recipes import get_recipe
from normfree.recipes.small import SMALL
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

BATCH_NORM: dict[str, Any] = {"model_options": {"normalization": "batch"}}
SGD: dict[str, Any] = {"optimizer": "sgd", "base_lr": 0.4, "momentum": 0.9, "batch_size": 256}

BEFORE = Recipe(
    name="short", data=Data(source=f"idx:{FASHION}"), model=Network(name="nfnet_nano")
).override(
    **SMALL,
    batch_size=128,
    augment="shift_flip",
    shift_padding=2,
    shift_from_epochs=3,
)
NANO = BEFORE.override(batch_size=64, lr=0.02)

#: What suits both, and what suits the network alone: see ``experiments/short_causes.py``.
TWIN: dict[str, Any] = BATCH_NORM | {"adam_ratio": 0.3}
OURS: dict[str, Any] = {"adam_ratio": 0.3, "calibrate": True}


def against_the_twin(epochs: int) -> Study:
    """The network and its twin, each with the settings chosen for it."""
    return Study(
        name=f"short_{epochs}",
        page="short_runs",
        base=NANO.override(epochs=epochs),
        variants={"without normalization": OURS, "batch-normalized twin": TWIN},
        seeds=5,
        judged="test",
    )


def recipe_against_its_twin(epochs: int) -> Study:
    """The recipe ``fashion_mnist`` as it is, and its twin."""
    base = get_recipe("fashion_mnist").override(data=f"idx:{FASHION}", epochs=epochs)
    options = dict(base.model.options) | {"normalization": "batch"}
    twin = {"model_options": options, "calibrate": False}
    return Study(
        name=f"fashion_{epochs}",
        page="short_runs",
        base=base,
        variants={"without normalization": {}, "batch-normalized twin": twin},
        seeds=5,
        judged="test",
    )


#: One epoch with the settings of before, and the twin's optimizer of before.
FIRST = Study(
    name="short_before",
    page="short_runs",
    base=BEFORE.override(epochs=1),
    variants={
        "without normalization, Muon": {},
        "batch-normalized, Muon": BATCH_NORM,
        "batch-normalized, SGD": BATCH_NORM | SGD,
    },
    seeds=1,
    judged="test",
)

STUDIES = [
    FIRST,
    *(against_the_twin(epochs) for epochs in (1, 3)),
    *(recipe_against_its_twin(epochs) for epochs in (1, 17)),
]

if __name__ == "__main__":
    main(STUDIES, __doc__)
