"""From a batch to what the network takes: mixed, augmented, normalized, in this order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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

FULL: dict[str, Any] = {"mixing": "mixup_cutmix", "randaugment_layers": 2, "augment": "none"}


def resolved(**changes: Any) -> Resolved:
    recipe = tiny_recipe(Path("unused"), **({"batch_size": 16} | changes))
    return resolve(recipe, open_source(recipe.data, "train"), open_source(recipe.data, "val"))


def raw(size: int, classes: int = 5) -> Batch:
    pixels = np.random.default_rng(0).integers(0, 256, (size, 1, 8, 8), dtype=np.uint8)
    keys = torch.from_numpy(example_keys(0, 1, np.arange(size)))
    return Batch(torch.from_numpy(pixels), torch.arange(size) % classes, keys)


def test_images_are_mixed_then_cut_to_bytes_then_augmented_then_normalized() -> None:
    settings = resolved(**FULL)
    (part,) = split(raw(32), settings.recipe)
    assert part.others is not None
    got = make_inputs(settings).train(part)

    drawn = draw_mix(part.own.keys, part.cutmix, 8, 8)
    wanted = []
    for i in range(16):
        a, b = (x.images[i, 0].numpy().astype(np.float64) for x in (part.own, part.others))
        mask = np.full((8, 8), float(drawn.ratio[i]))
        if i >= 8:
            top, bottom, left, right = drawn.boxes[i].tolist()
            mask = np.zeros((8, 8))
            mask[top:bottom, left:right] = 1
        wanted.append(mask * a + (1 - mask) * b)
    images = mix(part.own.images, part.others.images, drawn)
    np.testing.assert_allclose(images[:, 0], wanted, atol=1e-4)
    mixed = torch.from_numpy(np.floor(images.numpy())).to(torch.uint8)
    augment = RandAugment(2, settings.randaugment_magnitude)
    augmented = augment(mixed, augment.draw(part.own.keys, 8, 8))
    mean, std = settings.mean[0], settings.std[0]
    torch.testing.assert_close(got.images, (augmented.float() - mean) / std)


def test_targets_are_the_mixed_labels_smoothed() -> None:
    settings = resolved(**FULL, label_smoothing=0.2)
    (part,) = split(raw(32), settings.recipe)
    assert part.others is not None
    targets = make_inputs(settings).train(part).targets
    ratio = draw_mix(part.own.keys, part.cutmix, 8, 8).ratio
    one_hot = torch.eye(5)
    mixed = ratio[:, None] * one_hot[part.own.labels]
    mixed += (1 - ratio[:, None]) * one_hot[part.others.labels]
    torch.testing.assert_close(targets, 0.8 * mixed + 0.2 / 5)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(16))


@pytest.mark.parametrize("pairing", ["two_batches", "in_batch"])
def test_an_example_is_the_same_in_any_part(pairing: str) -> None:
    batch = raw(32 if pairing == "two_batches" else 16)
    whole = resolved(**FULL | {"augment": "shift_flip"}, pairing=pairing)
    parted = resolved(**FULL | {"augment": "shift_flip"}, pairing=pairing, accumulate=5)
    (one,) = (make_inputs(whole).train(part) for part in split(batch, whole.recipe))
    several = [make_inputs(parted).train(part) for part in split(batch, parted.recipe)]
    for field in ("images", "targets", "keys"):
        for first, example in enumerate(several):
            assert torch.equal(getattr(example, field), getattr(one, field)[first::5])


def test_without_mixing_or_augmentation_pixels_are_only_normalized() -> None:
    settings = resolved(augment="none")
    (part,) = split(raw(16), settings.recipe)
    example = make_inputs(settings).train(part)
    wanted = (part.own.images.float() - settings.mean[0]) / settings.std[0]
    torch.testing.assert_close(example.images, wanted)
    assert torch.equal(example.targets.argmax(dim=1), part.own.labels)


@pytest.mark.parametrize("quirks", [True, False])
def test_the_host_never_looks_at_what_is_on_the_device(quirks: bool) -> None:
    settings = resolved(**FULL | {"augment": "shift_flip", "quirks": quirks, "batch_size": 64})
    (part,) = split(raw(128), settings.recipe)
    # Tensors of this device have no values: whoever asks for one is refused.
    example = make_inputs(dataclasses.replace(settings, device="meta")).train(part)
    assert (example.images.device.type, example.images.shape) == ("meta", (64, 1, 8, 8))
    assert example.targets.shape == (64, 5)
    with pytest.raises(RuntimeError, match="meta"):
        example.images.max().item()


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


def test_evaluation_neither_mixes_nor_augments() -> None:
    settings = resolved(**FULL | {"augment": "shift_flip"})
    batch = raw(4)
    images, labels = make_inputs(settings).evaluation(batch)
    wanted = Inputs(mean=settings.mean, std=settings.std, device="cpu").evaluation(batch)[0]
    assert torch.equal(images, wanted)
    assert torch.equal(labels, batch.labels)
