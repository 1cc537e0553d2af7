"""What a network without normalization learns in 1, 3 and 13 epochs, beside its twin.

    FASHION_MNIST=DIR python -m experiments.short_runs

The settings were chosen on a part of the training images (``experiments/short_search.py``); here
they meet the test images of ``t10k``. Runs that are stored are not run again, so that it can be
stopped and started at any time.
"""

from __future__ import annotations

from typing import Any

from experiments.data import FASHION
from experiments.study import Study, main
from normfree.recipes.small import SMALL
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

BATCH_NORM: dict[str, Any] = {"model_options": {"normalization": "batch"}}

#: The twin's own settings; its images are Muon's.
SGD: dict[str, Any] = {"optimizer": "sgd", "base_lr": 0.4, "momentum": 0.9, "batch_size": 256}

NANO = Recipe(
    name="short", data=Data(source=f"idx:{FASHION}"), model=Network(name="nfnet_nano")
).override(
    **SMALL,
    batch_size=128,
    augment="shift_flip",
    shift_padding=2,
    shift_from_epochs=3,
)


def against_the_twin(epochs: int) -> Study:
    """The network, its twin with the same settings, and the twin with its own."""
    return Study(
        name=f"short_{epochs}",
        page="short_runs",
        base=NANO.override(epochs=epochs),
        variants={
            "without normalization, Muon": {},
            "batch-normalized, Muon": BATCH_NORM,
            "batch-normalized, SGD": BATCH_NORM | SGD,
        },
        seeds=5,
        judged="test",
    )


STUDIES = [against_the_twin(epochs) for epochs in (1, 3, 13)]

if __name__ == "__main__":
    main(STUDIES, __doc__)
