from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normfree.augment import IMAGENET_MEAN, IMAGENET_STD
from normfree.data import ArraySource
from normfree.data.sources.folder import FolderSource
from normfree.errors import UserError
from normfree.recipes import get_recipe
from normfree.train.derivation import derivation
from normfree.train.resolve import Resolved, resolve
from tests.unit.train.tiny import tiny_recipe


def gray(n: int, classes: int = 5) -> ArraySource:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    names = tuple(f"class {k}" for k in range(classes))
    return ArraySource("gray", pixels, np.arange(n) % classes, names)


def photographs(n: int, classes: int = 1000) -> FolderSource:
    names = tuple(f"class {k}" for k in range(classes))
    return FolderSource(("a.jpg",) * n, np.arange(n) % classes, names)


def resolved(train: int = 64, **changes: Any) -> Resolved:
    return resolve(tiny_recipe(Path("x"), **changes), gray(train), gray(10))


def test_the_papers_schedule_for_imagenet() -> None:
    r = resolve(get_recipe("imagenet_nfnet_f0"), photographs(1_281_167), photographs(50_000))
    assert r.total_steps == 112_602
    assert r.warmup_steps == pytest.approx(1563.92, abs=0.01)
    assert r.peak_lr == pytest.approx(1.6)
    assert (r.train_size, r.test_size, r.test_margin) == (192, 256, 32)
    assert (r.mean, r.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert (r.model["drop_rate"], r.model["stochastic_depth_rate"]) == (0.2, 0.25)


def test_everything_derived_moves_with_the_batch() -> None:
    small, large = resolved(batch_size=16), resolved(batch_size=32)
    assert (small.span.steps_per_epoch, large.span.steps_per_epoch) == (4.0, 2.0)
    assert (small.total_steps, large.total_steps) == (12, 6)
    assert (small.warmup_steps, large.warmup_steps) == (2.0, 1.0)
    assert large.peak_lr == 2 * small.peak_lr == 0.1 * 32 / 256


def test_everything_derived_moves_with_the_model() -> None:
    recipe = get_recipe("imagenet_nfnet_f0").override(model="nfnet_f3")
    r = resolve(recipe, photographs(5000), photographs(1000))
    assert (r.train_size, r.test_size, r.model["drop_rate"]) == (320, 416, 0.4)
    assert (r.model["name"], r.randaugment_magnitude) == ("nfnet_f3", 15)


def test_everything_derived_moves_with_the_data() -> None:
    recipe = tiny_recipe(Path("x"))
    r = resolve(recipe, gray(96, classes=7), gray(14, classes=7))
    assert (r.total_steps, r.span.steps_per_epoch) == (12, 4.0)
    assert (r.model["num_classes"], r.model["in_channels"]) == (7, 1)
    assert r.mean[0] == pytest.approx(gray(96).pixels.mean())
    assert r.std[0] == pytest.approx(gray(96).pixels.std())


def test_settings_win_over_what_would_be_derived() -> None:
    r = resolved(
        lr=0.7,
        drop_rate=0.0,
        activation="relu",
        train_size=16,
        test_size=24,
        test_margin=3,
        num_classes=9,
        mean=(1.0,),
        std=(2.0,),
        model_options={"alpha": 0.5, "widths": [16, 16, 32, 32]},
    )
    assert r.peak_lr == 0.7
    assert (r.train_size, r.test_size, r.test_margin) == (16, 24, 3)
    assert (r.mean, r.std) == ((1.0,), (2.0,))
    assert (r.model["num_classes"], r.outputs) == (9, 9)
    assert (r.model["drop_rate"], r.model["activation"], r.model["alpha"]) == (0.0, "relu", 0.5)
    assert r.model["widths"] == [16, 16, 32, 32]


def test_test_images_are_counted_if_there_are_any() -> None:
    recipe = tiny_recipe(Path("x"))
    assert resolve(recipe, gray(64), gray(10)).test_images == 0
    assert resolve(recipe, gray(64), gray(10), gray(7)).test_images == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 65}, "a batch of 65 is larger than the 64 training images.*64 or less"),
        ({"num_classes": 4}, "fewer than the 5 classes"),
        ({"model": "nfnet_picco"}, "did you mean nfnet_pico"),
        ({"model_options": {"drop_rat": 0.1}}, "did you mean drop_rate"),
        ({"model_options": {"in_channels": 3}}, "in_channels=3 does not fit .* have 1 channels"),
        ({"model_options": {"drop_rate": "abc"}}, "drop_rate .* got 'abc'"),
        ({"mean": (1.0, 2.0)}, "--mean has 2 values"),
        ({"device": "abacus"}, "--device abacus"),
    ],
)
def test_what_does_not_go_together_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolved(**changes)


def test_every_derived_value_is_shown() -> None:
    shown = {name: value for name, value, _ in derivation(resolved())}
    assert shown["total steps"] == "8"
    assert shown["steps per epoch"] == "2.67"
    assert shown["peak learning rate"] == "0.009375"


@pytest.mark.parametrize(("size", "margin"), [(64, 8), (256, 32), (576, 32)])
def test_the_margin_of_a_photograph_is_the_papers_or_an_eighth(size: int, margin: int) -> None:
    assert resolved(augment="crop_flip", test_size=size).test_margin == margin
    assert resolved(augment="crop_flip", test_size=size, test_margin=5).test_margin == 5
    assert resolved(augment="shift", test_size=size).test_margin == 0


def test_a_length_in_steps_ends_in_the_middle_of_an_epoch() -> None:
    found = resolved(steps=7, batch_size=24)
    assert (found.total_steps, found.epochs) == (7, 3)  # 7 · 24 of 64 images: 2.6 epochs
    assert [found.span.epoch_ended(steps) for steps in range(8)] == [
        *(None, None, 1, None, None, 2, None, 3)
    ]


def test_a_warm_up_in_steps_is_taken_as_it_is() -> None:
    assert resolved(warmup_steps=3.5).warmup_steps == 3.5


def test_a_warm_up_that_is_a_part_of_the_run_follows_its_length() -> None:
    short, long = (resolved(warmup_fraction=0.1, epochs=n, batch_size=8) for n in (1, 10))
    assert (short.warmup_steps, long.warmup_steps) == (pytest.approx(0.8), pytest.approx(8.0))
    assert ("warm-up steps", "8.00", "10% of all steps") in derivation(long)


def test_a_short_run_leaves_the_images_as_they_are() -> None:
    settings = {"augment": "shift_flip", "shift_from_epochs": 3}
    short, long = (resolved(epochs=n, **settings) for n in (2, 3))
    assert ("augmentation", "none", "shift_flip from 3 epochs on") in derivation(short)
    assert ("augmentation", "shift_flip", "") in derivation(long)


def test_orthogonal_steps_are_of_whole_weights() -> None:
    recipe = tiny_recipe(Path("x"), optimizer="muon", lr=0.03)
    for parallel, world in (("ddp", 2), ("fsdp", 1)):
        resolve(recipe.override(parallel=parallel), gray(64), gray(10), world=world)
    with pytest.raises(UserError, match="--parallel fsdp leaves each rank a part; choose"):
        resolve(recipe.override(parallel="fsdp"), gray(64), gray(10), world=2)


def test_batch_statistics_need_two_images() -> None:
    twin: dict[str, Any] = {"model_options": {"normalization": "batch"}}
    resolved(**twin, accumulate=12)
    with pytest.raises(UserError, match="--accumulate"):
        resolved(**twin, accumulate=13)
    with pytest.raises(UserError, match="--sam-fraction"):
        resolved(**twin, sam_rho=0.05, sam_fraction=0.05)
    resolved(accumulate=24)


def test_a_warm_up_that_outlasts_the_run_is_said() -> None:
    shown = {name: why for name, _, why in derivation(resolved(warmup_steps=100))}
    assert "the peak is not reached" in shown["warm-up steps"]


def test_the_strength_of_randaugment_is_the_models_unless_given() -> None:
    assert resolved().randaugment_magnitude == 0
    assert resolved(randaugment_layers=4).randaugment_magnitude == 5
    assert resolved(randaugment_layers=4, randaugment_magnitude=2.5).randaugment_magnitude == 2.5
    with pytest.raises(UserError, match="--randaugment-magnitude 5"):
        resolved(randaugment_layers=4, model="nf_resnet50")


def test_the_derivation_says_what_is_switched_on() -> None:
    plain = dict(row[:2] for row in derivation(resolved()))
    assert not {"SAM", "mixing", "RandAugment", "weights"} & plain.keys()
    full = resolved(
        **{"mixing": "cutmix", "randaugment_layers": 4, "sam_rho": 0.05, "clipping": "auto"}
    )
    shown = dict(row[:2] for row in derivation(full))
    assert (shown["SAM"], shown["mixing"], shown["RandAugment"]) == (
        "0.05",
        "cutmix",
        "4 layers × 5",
    )
    assert shown["clipping"] == "0.16"


def test_a_run_of_a_billion_steps_costs_nothing_to_plan() -> None:
    found = resolved(steps=10**9)
    assert found.span.epoch_ended(10**9) == found.epochs == 24 * 10**9 // 64
