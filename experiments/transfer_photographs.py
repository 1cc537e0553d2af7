"""Transfer between photographs: fine-tune on sunflowers and tulips what knows other flowers.

    PHOTOGRAPHS=DIR python -m experiments.transfer_photographs

Networks are pre-trained on 580 daisies, dandelions and roses each, for 12 epochs, and fine-tuned on
10 or 80 photographs of sunflowers and tulips each, for about 120 steps, with the settings of the
recipe ``folder``. They are judged on 500 others of each. No photograph is on two sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.data import DATA, photograph_folder
from experiments.photographs import BATCH_NORM
from experiments.study import Study, main
from normfree.recipes import get_recipe
from normfree.train.fit import fit
from normfree.train.recipe import Recipe

FIRST, SECOND = ("daisy", "dandelion", "rose"), ("sunflower", "tulip")
KNOWN, KNOWN_JUDGED, JUDGED = slice(580), slice(580, 680), slice(180, 680)
EACH = (10, 80)
FOLDER = get_recipe("folder")
KINDS: dict[str, dict[str, Any]] = {
    "without normalization": {},
    "batch-normalized twin": BATCH_NORM | {"calibrate": False},
}


def pretrained(kind: str) -> Path:
    """The run that was trained on the first three flowers."""
    return DATA / f"flowers-{kind.replace(' ', '-')}"


def few(each: int) -> Recipe:
    """About 120 steps on a few photographs."""
    batch = min(32, len(SECOND) * each)
    epochs = round(120 * batch / (len(SECOND) * each))
    folder = f"folder:{DATA / f'flowers-{each}'}"
    return FOLDER.override(data=folder, epochs=epochs, batch_size=batch)


def ways(kind: str) -> dict[str, dict[str, Any]]:
    """From scratch, and from the weights that know other flowers, whose gains are as trained."""
    known = {"init": str(pretrained(kind)), "calibrate": False}
    return {f"{kind}, from scratch": KINDS[kind], f"{kind}, all layers": KINDS[kind] | known}


def prepare() -> None:
    """Make the folders, and train on the first three flowers."""
    first = DATA / "flowers-first"
    photograph_folder(first, KNOWN, KNOWN_JUDGED, FIRST)
    for each in EACH:
        photograph_folder(DATA / f"flowers-{each}", slice(each), JUDGED, SECOND)
    for kind, settings in KINDS.items():
        if not (pretrained(kind) / "model.safetensors").exists():
            recipe = FOLDER.override(**settings, data=f"folder:{first}", out=pretrained(kind))
            fit(recipe.override(epochs=12))


STUDIES = [
    Study(
        name=f"transfer_photographs_{each}",
        page="transfer",
        base=few(each),
        variants={name: way for kind in KINDS for name, way in ways(kind).items()},
        seeds=5,
        judged="test",
    )
    for each in EACH
]

if __name__ == "__main__":
    main(STUDIES, __doc__, prepare)
