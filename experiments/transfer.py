"""Fine-tune on a few images of five classes what was trained on five others, beside the twin.

    FASHION_MNIST=DIR python -m experiments.transfer

Networks are pre-trained on t-shirts, trousers, pullovers, dresses and coats, for two epochs, and
fine-tuned on sandals, shirts, sneakers, bags and ankle boots. The rate is chosen for each kind of
run on the last 6,000 training images (``transfer_choice``); the other tables are of the test
images. The few images are the same for every seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.data import DATA, fashion_classes
from experiments.study import Study, main
from normfree.recipes.small import SMALL
from normfree.train.components import Data, Network
from normfree.train.fit import fit
from normfree.train.recipe import Recipe

FIRST, SECOND = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
HELD_OUT = 6000  # training images that validate
EACH = (5, 10, 50, 500)  # images of each class
KINDS: dict[str, dict[str, Any]] = {
    "without normalization": {},
    "batch-normalized twin": {"model_options": {"normalization": "batch"}},
}
#: What is trained → the stages that stay as they were; None: nothing was trained before.
WAYS = {"from scratch": None, "all layers": 0, "last two stages": 2, "head alone": 4}


def nano(source: Path) -> Recipe:
    """The network of the study."""
    return Recipe(
        name="transfer", data=Data(source=f"idx:{source}"), model=Network(name="nfnet_nano")
    ).override(**SMALL)


def pretrained(kind: str) -> Path:
    """The run that was trained on the first five classes."""
    return DATA / f"first-half-{kind.replace(' ', '-')}"


def images(each: int, held_out: int) -> Path:
    """The few images of the second five classes."""
    return DATA / f"second-{each}-{held_out}"


def few(each: int, held_out: int) -> Recipe:
    """About 200 steps on a few images."""
    batch = min(64, len(SECOND) * each)
    epochs = max(1, round(200 * batch / (len(SECOND) * each)))
    return nano(images(each, held_out)).override(epochs=epochs, batch_size=batch)


def start(kind: str, way: str) -> dict[str, Any]:
    """What is trained, and from where."""
    freeze = WAYS[way]
    known = {} if freeze is None else {"init": str(pretrained(kind)), "freeze": freeze}
    return KINDS[kind] | known


def prepare() -> None:
    """Write the images, and train on the first five classes."""
    first = DATA / f"fashion-first-all-{HELD_OUT}"
    fashion_classes(first, FIRST, held_out=HELD_OUT)
    for each, held_out in ((50, HELD_OUT), *((each, 0) for each in EACH)):
        fashion_classes(images(each, held_out), SECOND, each, held_out=held_out)
    for kind, settings in KINDS.items():
        if not (pretrained(kind) / "model.safetensors").exists():
            recipe = nano(first).override(**settings, out=pretrained(kind))
            fit(recipe.override(epochs=2, batch_size=64, lr=0.02))


CASES = [(kind, way) for kind in KINDS for way in WAYS]

CHOICE = Study(
    name="transfer_choice",
    page="transfer",
    base=few(50, held_out=HELD_OUT),
    variants={
        f"{kind}, {way}, rate {lr}": start(kind, way) | {"lr": lr}
        for kind, way in CASES
        for lr in (0.003, 0.01, 0.03)
    },
    seeds=1,
)

RATE = 0.03  # the best of ``transfer_choice`` for every case, and the largest there

STUDIES = [
    CHOICE,
    *(
        Study(
            name=f"transfer_{each}",
            page="transfer",
            base=few(each, held_out=0),
            variants={f"{kind}, {way}": start(kind, way) | {"lr": RATE} for kind, way in CASES},
            judged="test",
        )
        for each in EACH
    ),
]

if __name__ == "__main__":
    main(STUDIES, __doc__, prepare)
