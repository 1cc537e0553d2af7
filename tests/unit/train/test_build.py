"""From a resolved recipe to what the loop works with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from normfree.augment import RandAugment
from normfree.data import Ascent, BatchPlan, EvalTransform, TrainTransform, open_source
from normfree.train.build import build_card, build_device_transform, build_state, build_step
from normfree.train.build_reader import build_plan, eval_transform, train_transform
from normfree.train.init import new_model
from normfree.train.resolve import Resolved, resolve
from normfree.train.sources import open_sources
from tests.unit.train.tiny import tiny_recipe


def resolved(**changes: Any) -> Resolved:
    recipe = tiny_recipe(Path("unused"), **({"batch_size": 16} | changes))
    return resolve(recipe, *open_sources(recipe.data.source))


@pytest.mark.parametrize("crop", ["tensorflow", "torchvision"])
def test_the_crop_is_the_recipes(crop: str) -> None:
    settings = resolved(augment="crop_flip", crop=crop)
    source = open_source("synthetic:64x8x1x5", "train")
    assert train_transform(settings, source) == TrainTransform(8, crop=crop)  # type: ignore[arg-type]


def test_images_of_the_right_size_are_left_alone() -> None:
    source = open_source("synthetic:8x16x1x2", "train")
    right = resolved(train_size=16, test_size=16, test_margin=0)
    assert train_transform(right, source) is None
    assert eval_transform(right, source) is None
    margin = resolved(test_size=16, test_margin=4)
    assert eval_transform(margin, source) == EvalTransform(16, 4)
    keep = resolved(test_size=16, test_margin=4, test_crop="crop_resize")
    assert eval_transform(keep, source) == EvalTransform(16, 4, keep_aspect=True)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, {}),
        ({"accumulate": 4, "seed": 3}, {"accumulate": 4, "seed": 3}),
        (
            {"mixing": "cutmix", "pairing": "in_batch"},
            {"mixing": "cutmix", "pairing": "in_batch"},
        ),
        ({"sam_rho": 0.05, "sam_fraction": 0.2}, {"ascent": Ascent(fraction=0.2)}),
        (
            {"sam_rho": 0.05, "sam_scope": "micro_batch", "accumulate": 2},
            {"ascent": Ascent(scope="micro_batch"), "accumulate": 2},
        ),
        (
            {"sam_rho": 0.05, "sam_scope": "other_batch", "sam_fraction": 0.5},
            {"ascent": Ascent(fraction=0.5, scope="other_batch")},
        ),
    ],
)
def test_the_plan_is_the_recipes(settings: dict[str, Any], wanted: dict[str, Any]) -> None:
    plan = BatchPlan(**{"seed": 0, "examples": 64, "batch_size": 16, **wanted})
    assert build_plan(resolved(**settings)) == plan


def test_the_device_transform_is_the_recipes() -> None:
    plain = build_device_transform(resolved(augment="none"))
    assert (plain.shift, plain.flip, plain.randaugment) == (0, False, None)
    full = build_device_transform(
        resolved(
            augment="shift_flip",
            shift_padding=2,
            mixing="mixup",
            mixup_alpha=0.3,
            cutmix_alpha=0.7,
            randaugment_layers=3,
            randaugment_magnitude=4.0,
            quirks=False,
            label_smoothing=0.2,
            channels_last=True,
            num_classes=9,
        )
    )
    assert (full.shift, full.flip, full.channels_last) == (2, True, True)
    assert (full.mixup_alpha, full.cutmix_alpha, full.label_smoothing) == (0.3, 0.7, 0.2)
    assert full.randaugment == RandAugment(3, 4.0, quirks=False)
    assert full.num_classes == 9


def test_a_short_run_neither_shifts_nor_mirrors() -> None:
    settings = {"augment": "shift_flip", "shift_padding": 2, "shift_from_epochs": 3}
    for epochs, wanted in ((2, (0, False)), (3, (2, True))):
        made = build_device_transform(resolved(epochs=epochs, **settings))
        assert (made.shift, made.flip) == wanted


def test_the_step_has_the_schedule_and_the_arithmetic_of_the_recipe() -> None:
    settings = resolved(
        lr=0.5, warmup_steps=2, schedule="step", step_epochs=1.0, step_decay=0.5,
        precision="bfloat16", sam_rho=0.1, sam_scope="micro_batch", accumulate=2, loss="sigmoid",
    )  # fmt: skip
    model = new_model(settings.model, settings.classes, None, seed=0)[0]
    step = build_step(settings, build_state(settings, model))
    assert [step.schedule(n) for n in (0, 1, 2, 6)] == [0.0, 0.25, 0.5, 0.25]
    assert (step.scope, step.batch_size) == ("micro_batch", 16)
    dtypes: list[torch.dtype] = []
    model.classifier.register_forward_hook(lambda layer, args, out: dtypes.append(out.dtype))
    images, targets = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.full((2, 5), 0.5)
    total, _ = step.loss_of(images, torch.arange(2), targets)
    assert dtypes == [torch.bfloat16]
    # a classifier near zero gives each of 2 × 5 decisions a loss near log 2
    assert total.item() == pytest.approx(10 * math.log(2), rel=1e-3)


def test_the_card_says_how_the_network_is_fed() -> None:
    settings = resolved(test_size=24, test_margin=3, test_crop="crop_resize", loss="sigmoid")
    card = build_card(settings)
    assert (card.test_size, card.test_margin, card.test_crop) == (24, 3, "crop_resize")
    assert (card.loss, card.classes, card.mean) == ("sigmoid", settings.classes, settings.mean)
    assert card.recipe == "tiny"
