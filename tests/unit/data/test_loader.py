from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch

from normfree.data import (
    ArraySource,
    BadImages,
    BatchPlan,
    EvalTransform,
    TrainTransform,
    eval_batches,
    open_source,
    train_batches,
)
from normfree.errors import BadImageError, UserError
from normfree.random import example_keys


def _plan(source, batch_size=5, **changes):
    return BatchPlan(seed=11, examples=len(source), batch_size=batch_size, **changes)


def _same(first, second):
    assert len(first) == len(second) > 0
    for ours, theirs in zip(first, second, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            if not isinstance(a, torch.Tensor):
                assert a == b
            else:
                assert a.dtype == b.dtype
                assert torch.equal(a, b)


@pytest.fixture
def damaged(folder):
    """The folder with two unreadable training images and one unreadable validation image."""
    (folder / "train/china/6.jpg").write_bytes(b"")
    whole = (folder / "train/flower/0.jpg").read_bytes()
    (folder / "train/flower/0.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "val/china/3.jpg").write_bytes(b"not an image")
    return folder


DAMAGED = ["train/china/6.jpg", "train/flower/0.jpg"]  # examples 6 and 7 of 14


def test_batches_of_tiny_images():
    source = open_source("digits", "train")
    plan = _plan(source, 64)
    batch = list(train_batches(source, None, plan, start=0, stop=25))[22]
    epochs, indices = plan.places(22)
    assert epochs[0] != epochs[-1]  # this batch spans two epochs
    expected = source.pixels[indices].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(batch.images.numpy(), expected)
    np.testing.assert_array_equal(batch.labels.numpy(), source.labels[indices])
    np.testing.assert_array_equal(batch.keys.numpy(), example_keys(11, epochs, indices))
    assert batch.images.dtype == torch.uint8
    assert batch.labels.dtype == batch.keys.dtype == torch.int64


def test_reading_one_by_one_gives_the_same_as_the_copy_from_memory():
    source = open_source("synthetic:40x8x3x4", "train")
    plan = _plan(source)
    fast = train_batches(source, None, plan, start=0, stop=10)
    slow = train_batches(source, lambda image, rng: image, plan, start=0, stop=10)
    _same(list(fast), list(slow))


@pytest.mark.parametrize("start", [1, 4, 7])
def test_any_start_gives_the_same_batches(folder, start):
    source = open_source(f"folder:{folder}", "train")
    plan = _plan(source)
    whole = list(train_batches(source, TrainTransform(16), plan, start=0, stop=8))
    rest = list(train_batches(source, TrainTransform(16), plan, start=start, stop=8))
    _same(rest, whole[start:])


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_batches(folder, workers):
    source = open_source(f"folder:{folder}", "train")
    plan, transform = _plan(source, mixing="mixup_cutmix", accumulate=2), TrainTransform(16)
    torch.manual_seed(0)
    alone = list(train_batches(source, transform, plan, start=2, stop=7))
    state = torch.get_rng_state()
    helped = list(train_batches(source, transform, plan, start=2, stop=7, workers=workers))
    _same(helped, alone)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is untouched

    val = open_source(f"folder:{folder}", "val")
    alone = list(eval_batches(val, EvalTransform(16), 3))
    _same(list(eval_batches(val, EvalTransform(16), 3, workers=workers)), alone)


def test_an_epoch_crops_anew(folder):
    source = open_source(f"folder:{folder}", "train")
    plan = BatchPlan(seed=0, examples=len(source), batch_size=len(source))
    first, second = train_batches(source, TrainTransform(16), plan, start=0, stop=2)
    at = [int(np.flatnonzero(plan.places(step).indices == 0)[0]) for step in (0, 1)]
    assert not torch.equal(first.images[at[0]], second.images[at[1]])
    assert first.images.dtype == torch.float32
    assert first.images.is_contiguous()


def test_a_transformed_gray_image_keeps_its_channel():
    source = open_source("digits", "val")
    batch = next(eval_batches(source, EvalTransform(12, margin=0), 7))
    assert batch.images.shape == (7, 1, 12, 12)


def test_evaluation_covers_every_example_once_in_order(folder):
    source = open_source(f"folder:{folder}", "val")
    batches = list(eval_batches(source, EvalTransform(16), 3))
    assert [len(batch.labels) for batch in batches] == [3, 3, 2]
    labels = torch.cat([batch.labels for batch in batches])
    np.testing.assert_array_equal(labels.numpy(), source.labels)
    images = torch.cat([batch.images for batch in batches])
    for index in range(len(source)):
        expected = EvalTransform(16)(source.image(index)).transpose(2, 0, 1)
        np.testing.assert_array_equal(images[index].numpy(), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_an_error_that_names_the_file(damaged, workers):
    source = open_source(f"folder:{damaged}", "train")
    with pytest.raises(BadImageError) as caught:
        list(
            train_batches(
                source, TrainTransform(8), _plan(source), start=0, stop=3, workers=workers
            )
        )
    assert any(caught.value.name.endswith(name) for name in DAMAGED)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_skips_named_and_counted(damaged, workers):
    source = open_source(f"folder:{damaged}", "train")
    plan, log = _plan(source, batch_size=len(source)), BadImages()
    batches = list(
        train_batches(
            source, TrainTransform(8), plan, start=0, stop=3,
            workers=workers, on_bad_image="skip", bad_images=log,
        )
    )  # fmt: skip
    assert sorted(log.names) == [str(damaged / name) for name in DAMAGED]
    assert log.count == 2
    assert log.reasons[str(damaged / DAMAGED[0])] == "the file is empty"
    times = 0
    for batch, places in zip(batches, map(plan.places, range(3)), strict=True):
        assert len(batch.labels) == len(source)  # one epoch
        stands_in = places.indices.copy()
        for _ in range(2):  # the epoch's next readable example replaces it, including its label
            bad = np.isin(stands_in, [6, 7])
            times += bad.sum()
            stands_in = np.where(bad, np.roll(stands_in, -1), stands_in)
        np.testing.assert_array_equal(batch.labels.numpy(), source.labels[stands_in])
        np.testing.assert_array_equal(batch.keys.numpy(), example_keys(11, *places))
    assert log.times == times


class Damaged(ArraySource):
    """A source whose first 150 images cannot be read; it counts reads."""

    decoded = 0

    def image(self, index):
        Damaged.decoded += 1
        if index < 150:
            raise BadImageError(self.name(index), "damaged")
        return super().image(index)


def test_many_damaged_images_are_replaced_by_all_the_others_and_met_once_each():
    labels = np.repeat(np.arange(4), 50)  # sorted, as in folders: three entire classes are damaged
    source = Damaged("half", np.zeros((200, 4, 4, 1), np.uint8), labels, tuple("abcd"))
    source.pixels[:, 0, 0, 0] = np.arange(200)
    plan, log = BatchPlan(seed=0, examples=200, batch_size=200), BadImages()
    batches = list(
        train_batches(
            source, lambda image, rng: image, plan, start=0, stop=5,
            on_bad_image="skip", bad_images=log,
        )
    )  # fmt: skip
    shown = torch.cat([batch.images[:, 0, 0, 0] for batch in batches]).numpy()
    assert log.count == 150
    assert source.decoded == 150 + len(shown)
    assert set(shown.tolist()) == set(range(150, 200))
    assert np.bincount(shown)[150:].max() < len(shown) / 8  # no single image replaces a whole class


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_leaves_bad_images_out(damaged, workers):
    source, log = open_source(f"folder:{damaged}", "val"), BadImages()
    batches = list(
        eval_batches(
            source, EvalTransform(8), 3, workers=workers, on_bad_image="skip", bad_images=log
        )
    )
    assert log.names == (str(damaged / "val/china/3.jpg"),)
    assert [len(batch.labels) for batch in batches] == [3, 2, 2]
    expected = example_keys(0, 0, np.array([0, 1, 2, 4, 5, 6, 7]))
    np.testing.assert_array_equal(torch.cat([batch.keys for batch in batches]).numpy(), expected)


def test_a_batch_that_loses_all_its_images_is_left_out(damaged):
    source, log = open_source(f"folder:{damaged}", "val"), BadImages()
    batches = list(eval_batches(source, EvalTransform(8), 1, on_bad_image="skip", bad_images=log))
    assert len(batches) == len(source) - 1


def test_a_source_without_a_readable_image_is_an_error(damaged):
    for file in damaged.rglob("*.jpg"):
        file.write_bytes(b"")
    train, val = (open_source(f"folder:{damaged}", split) for split in ("train", "val"))
    skip = {"on_bad_image": "skip", "bad_images": BadImages()}
    with pytest.raises(UserError, match=r"none of the 14 images .*the file is empty"):
        list(train_batches(train, TrainTransform(8), _plan(train), start=0, stop=1, **skip))
    with pytest.raises(UserError, match=r"none of the .* images can be read"):
        list(eval_batches(val, EvalTransform(8), 3, **skip))


def test_skipping_without_a_log_is_refused_at_once(folder):
    source = open_source(f"folder:{folder}", "val")
    with pytest.raises(ValueError, match="needs a log"):
        eval_batches(source, EvalTransform(8), 3, on_bad_image="skip")


def test_images_of_different_sizes_need_a_transform(folder):
    source = open_source(f"folder:{folder}", "val")
    with pytest.raises(UserError, match="different sizes"):
        list(eval_batches(source, None, 3))


def test_a_consumer_that_stops_early_leaves_no_process(folder):
    source = open_source(f"folder:{folder}", "train")
    batches = train_batches(source, TrainTransform(8), _plan(source), start=0, stop=1000, workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


def test_no_steps_no_batches(folder):
    source = open_source(f"folder:{folder}", "train")
    assert not list(train_batches(source, TrainTransform(8), _plan(source), start=3, stop=3))
