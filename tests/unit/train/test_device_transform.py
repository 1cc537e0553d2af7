"""From a micro-batch to what the network takes: mixed, augmented, normalized, in this order."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from normfree.augment import RandAugment, draw_mix, mix
from normfree.data import Ascent, Batch, BatchPlan, MicroBatch, open_source, train_batches
from normfree.train.device_transform import DeviceTransform

MEAN, STD = (120.0,), (40.0,)
FULL: dict[str, Any] = {"randaugment": RandAugment(2, 5)}


def transform(**changes: Any) -> DeviceTransform:
    settings: dict[str, Any] = {"mean": MEAN, "std": STD, "device": "cpu", "num_classes": 5}
    return DeviceTransform(**(settings | changes))


def micro_batches(size: int = 16, **changes: Any) -> list[MicroBatch]:
    """Those of the second step."""
    source = open_source("synthetic:80x8x1x5", "train")
    settings: dict[str, Any] = {"mixing": "mixup_cutmix"}
    plan = BatchPlan(seed=0, examples=80, batch_size=size, **(settings | changes))
    return list(train_batches(source, None, plan, start=1, stop=2))


def pairs(batch: MicroBatch) -> tuple[Tensor, Tensor]:
    assert batch.partners is not None
    return batch.images[: batch.size], batch.images[batch.partners]


def test_images_are_mixed_then_cut_to_bytes_then_augmented_then_normalized() -> None:
    (batch,) = micro_batches()
    own, others = pairs(batch)
    keys = batch.keys[:16]
    drawn = draw_mix(keys, batch.cutmix, 8, 8)
    wanted = []
    for i in range(16):
        a, b = own[i, 0].numpy().astype(np.float64), others[i, 0].numpy().astype(np.float64)
        mask = np.full((8, 8), float(drawn.ratio[i]))
        if i >= 8:
            top, bottom, left, right = drawn.boxes[i].tolist()
            mask = np.zeros((8, 8))
            mask[top:bottom, left:right] = 1
        wanted.append(mask * a + (1 - mask) * b)
    images = mix(own, others, drawn)
    np.testing.assert_allclose(images[:, 0], wanted, atol=1e-4)
    mixed = torch.from_numpy(np.floor(images.numpy())).to(torch.uint8)
    augment = RandAugment(2, 5)
    augmented = augment(mixed, augment.draw(keys, 8, 8))
    example = transform(**FULL)(batch)
    assert example.images.dtype == torch.uint8  # a step that looks twice holds bytes
    assert torch.equal(example.images, augmented)
    normalized = transform(**FULL).normalized(example.images)
    torch.testing.assert_close(normalized, (augmented.float() - MEAN[0]) / STD[0])


def test_targets_are_the_mixed_labels_smoothed() -> None:
    (batch,) = micro_batches()
    assert batch.partners is not None
    targets = transform(**FULL, label_smoothing=0.2)(batch).targets
    ratio = draw_mix(batch.keys[:16], batch.cutmix, 8, 8).ratio
    one_hot = torch.eye(5)
    mixed = ratio[:, None] * one_hot[batch.labels[:16]]
    mixed += (1 - ratio[:, None]) * one_hot[batch.labels[batch.partners]]
    torch.testing.assert_close(targets, 0.8 * mixed + 0.2 / 5)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(16))


@pytest.mark.parametrize("pairing", ["two_batches", "in_batch"])
@pytest.mark.parametrize("augment", [FULL, {}], ids=["bytes", "floats"])
def test_an_example_is_the_same_in_any_micro_batch(pairing: str, augment: dict[str, Any]) -> None:
    stage = transform(**augment, shift=1, flip=True)
    (one,) = map(stage, micro_batches(pairing=pairing))
    several = [stage(batch) for batch in micro_batches(pairing=pairing, accumulate=5)]
    for field in ("images", "targets", "keys"):
        for first, example in enumerate(several):
            assert torch.equal(getattr(example, field), getattr(one, field)[first::5])


def test_without_mixing_or_augmentation_bytes_stay_as_they_are() -> None:
    (batch,) = micro_batches(mixing="none")
    example = transform()(batch)
    assert torch.equal(example.images, batch.images)
    assert torch.equal(example.targets.argmax(dim=1), batch.labels)


def test_floats_of_a_crop_are_mixed_as_they_are() -> None:
    (batch,) = micro_batches()
    fractions = batch._replace(images=batch.images + 0.4)
    own, others = pairs(fractions)
    drawn = draw_mix(batch.keys[:16], batch.cutmix, 8, 8)
    augment = RandAugment(1, 0)
    wanted = mix(own, others, drawn).clamp(0, 255).to(torch.uint8)
    got = transform(randaugment=augment)(fractions).images
    assert torch.equal(got, augment(wanted, augment.draw(batch.keys[:16], 8, 8)))
    assert not torch.equal(got, transform(randaugment=augment)(batch).images)


def test_those_that_ascend_are_a_part_of_the_others() -> None:
    (batch,) = micro_batches(ascent=Ascent(fraction=0.25))
    example = transform(**FULL)(batch)
    few = example.ascending
    for name in ("images", "targets", "keys"):
        assert torch.equal(getattr(few, name), getattr(example, name)[::4])
    assert few.ascending is few
    (batch,) = micro_batches(ascent=Ascent())
    example = transform(**FULL)(batch)
    assert example.ascending is example


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_layout_is_the_networks(channels_last: bool) -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    stage = transform(mean=MEAN * 3, std=STD * 3, channels_last=channels_last)
    x = stage.normalized(images)
    assert x.is_contiguous(memory_format=torch.channels_last) == channels_last


@pytest.mark.parametrize("quirks", [True, False])
def test_the_host_never_looks_at_what_is_on_the_device(quirks: bool) -> None:
    # Tensors of this device have no values: whoever asks for one is refused.
    stage = transform(device="meta", shift=1, flip=True, randaugment=RandAugment(2, 5, quirks))
    for pairing in ("two_batches", "in_batch"):
        (batch,) = micro_batches(64, pairing=pairing, ascent=Ascent(fraction=0.5))
        example = stage(batch)
        few = example.ascending
        assert (few.images.device.type, few.images.shape) == ("meta", (32, 1, 8, 8))
        assert stage.normalized(example.images).shape == (64, 1, 8, 8)
        assert example.targets.shape == (64, 5)
    with pytest.raises(RuntimeError, match="meta"):
        example.images.max().item()


def test_settings_are_plain_and_comparable() -> None:
    first, second = transform(**FULL), transform(**FULL)
    first.normalized(torch.zeros(1, 1, 2, 2))
    assert first == second
    assert dataclasses.replace(first, mean=(0.0,)) != second
    x = dataclasses.replace(first, mean=(0.0,)).normalized(torch.full((1, 1, 1, 1), 80.0))
    assert float(x) == 2.0


def test_evaluation_neither_mixes_nor_augments() -> None:
    (batch,) = micro_batches(4, mixing="none")
    images, labels = transform(**FULL, shift=1, flip=True).evaluation(Batch(*batch[:3]))
    assert torch.equal(images, transform().normalized(batch.images))
    assert torch.equal(labels, batch.labels)
