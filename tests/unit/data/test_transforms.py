from __future__ import annotations

import pickle

import numpy as np
import pytest

from normfree.data.crop import random_crop_resize
from normfree.data.preprocess import center_crop_resize, padded_center_crop, resize_crop
from normfree.data.transforms import EvalTransform, TrainTransform


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 4), (375, 500)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", ["tensorflow", "torchvision"])
def test_images_of_any_shape_become_squares(shape, channels, crop):
    image = np.full((*shape, channels), 200, dtype=np.uint8)
    for seed in range(5):
        ours = TrainTransform(24, crop=crop)(image, np.random.default_rng(seed))
        assert ours.shape == (24, 24, channels)
        np.testing.assert_allclose(ours, 200, atol=1e-3)
    for transform in (
        EvalTransform(24),
        EvalTransform(24, keep_aspect=True),
        EvalTransform(24, margin=0),
    ):
        assert transform(image).shape == (24, 24, channels)


def test_eval_transform_is_the_preprocessing_it_names(photographs):
    image = photographs["china"]
    np.testing.assert_array_equal(EvalTransform(32)(image), resize_crop(image, 32))
    np.testing.assert_array_equal(
        EvalTransform(32, margin=8, keep_aspect=True)(image), center_crop_resize(image, 32, 8)
    )


def test_resize_crop_keeps_the_center():
    image = np.zeros((64, 64, 1), dtype=np.uint8)
    image[16:48, 16:48] = 255
    ours = resize_crop(image, 32, margin=32)
    np.testing.assert_array_equal(ours, image[16:48, 16:48])


def test_padded_center_crop_is_central():
    image = np.arange(11 * 20).reshape(11, 20, 1).astype(np.uint8)
    ours = padded_center_crop(image, size=32, padding=32)  # half of 11: 5 × 5
    np.testing.assert_array_equal(ours, image[3:8, 8:13])


@pytest.mark.parametrize("crop", ["tensorflow", "torchvision"])
def test_train_transform_crops_as_configured(photographs, crop):
    image = photographs["china"]
    ours = TrainTransform(32, crop=crop)(image, np.random.default_rng(3))
    expected = random_crop_resize(image, 32, np.random.default_rng(3), crop=crop)
    np.testing.assert_array_equal(ours, expected)


def test_the_kinds_of_crop_differ(photographs):
    transforms = TrainTransform(8), TrainTransform(8, crop="torchvision")
    first, second = (
        transform(photographs["china"], np.random.default_rng(3)) for transform in transforms
    )
    assert not np.array_equal(first, second)


def test_train_transform_needs_a_generator():
    with pytest.raises(ValueError, match="EvalTransform"):
        TrainTransform(8)(np.zeros((9, 9, 3), dtype=np.uint8), None)


@pytest.mark.parametrize(
    "transform", [TrainTransform(8, flip=False, crop="torchvision"), EvalTransform(8, 4)]
)
def test_transforms_travel_to_workers(transform):
    assert pickle.loads(pickle.dumps(transform)) == transform
