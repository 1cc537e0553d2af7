"""From a run's configuration to its transforms and its plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from normfree.augment import draw_mix, mix
from normfree.augment.randaugment import RandAugment
from normfree.data import Batch, EvalTransform, TrainTransform, open_source
from normfree.random import example_keys
from normfree.train.inputs import (
    Inputs,
    eval_transform,
    make_inputs,
    train_transform,
)
from normfree.train.parts import split
from normfree.train.resolve import Resolved, resolve
from tests.unit.train.tiny import tiny_recipe


def resolved(**changes: Any) -> Resolved:
    recipe = tiny_recipe(Path("unused"), **({"batch_size": 16} | changes))
    return resolve(recipe, open_source(recipe.data, "train"), open_source(recipe.data, "val"))


@pytest.mark.parametrize("crop", ["tensorflow", "torchvision"])
def test_the_crop_is_the_recipes(crop: str) -> None:
    settings = resolved(augment="crop_flip", crop=crop)
    source = open_source(settings.recipe.data, "train")
    assert train_transform(settings, source) == TrainTransform(8, crop=crop)  # type: ignore[arg-type]


def test_test_images_of_the_right_size_are_left_alone() -> None:
    source = open_source("synthetic:8x16x1x2", "train")
    assert eval_transform(resolved(test_size=16, test_margin=0), source) is None
    assert eval_transform(resolved(test_size=16, test_margin=4), source) == EvalTransform(16, 4)
    keep = resolved(test_size=16, test_margin=4, test_crop="crop_resize")
    assert eval_transform(keep, source) == EvalTransform(16, 4, keep_aspect=True)


def test_the_plan_is_the_recipes() -> None:
    recipe = tiny_recipe(
        Path("unused"), mixing="cutmix", pairing="in_batch", accumulate=3, seed=7,
        sam_rho=0.1, sam_fraction=0.5, sam_scope="part",
    )  # fmt: skip
    assert make_plan(recipe, 64) == BatchPlan(
        seed=7, examples=64, batch_size=24, mixing="cutmix", pairing="in_batch", accumulate=3,
        ascent=Ascent(fraction=0.5, scope="micro_batch"),
    )  # fmt: skip
    assert make_plan(tiny_recipe(Path("unused")), 64).ascent is None
