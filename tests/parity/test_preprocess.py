"""Resizing, evaluation preprocessing and normalization against TensorFlow's stored results."""

from __future__ import annotations

import numpy as np
import pytest

from normfree.augment import IMAGENET_MEAN, IMAGENET_STD, normalize
from normfree.data.preprocess import center_crop_resize, padded_center_crop, resize_crop
from normfree.data.resize import keys_cubic, resize_bicubic
from tests.parity.reference import arrays, nchw

GRAY_LEVELS = 2e-4  # the largest error allowed; float32 itself is good to 2e-5 at 255
SHAPES = ("90x130", "140x77", "40x52")


@pytest.fixture(scope="module")
def stored():
    return arrays("preproc_golden")


@pytest.mark.parametrize("shape", SHAPES)
def test_bicubic(stored, shape):
    ours = resize_bicubic(stored[f"src/{shape}"], 48, 56)
    assert ours.dtype == np.float32
    assert np.abs(ours - stored[f"bicubic/48x56/{shape}"]).max() <= GRAY_LEVELS


@pytest.mark.parametrize("shape", SHAPES)
def test_the_table_of_the_cubic_is_what_makes_bicubic_equal(stored, shape):
    image, (height, width) = stored[f"src/{shape}"].astype(np.float64), (48, 56)
    exact = _exact_weights(image.shape[0], height) @ image.transpose(2, 0, 1)
    exact = exact @ _exact_weights(image.shape[1], width).T
    error = np.abs(exact.transpose(1, 2, 0) - stored[f"bicubic/48x56/{shape}"]).max()
    assert 10 * GRAY_LEVELS < error < 0.5


def _exact_weights(length, out):
    place = (np.arange(out) + 0.5) * length / out - 0.5
    distance = (np.arange(length) - place[:, None]).astype(np.float32)
    weights = keys_cubic(distance).astype(np.float64)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_resize_crop(stored, shape):
    ours = resize_crop(stored[f"src/{shape}"], 64, margin=32)
    assert np.abs(ours - stored[f"resize_crop_32/64/{shape}"]).max() <= GRAY_LEVELS


@pytest.mark.parametrize("shape", SHAPES)
def test_padded_center_crop(stored, shape):
    ours = padded_center_crop(stored[f"src/{shape}"], 64)
    np.testing.assert_array_equal(ours, stored[f"center_crop_uint8/64/{shape}"])


@pytest.mark.parametrize("shape", SHAPES)
def test_center_crop_resize(stored, shape):
    ours = center_crop_resize(stored[f"src/{shape}"], 64)
    assert np.abs(ours - stored[f"crop_resize/64/{shape}"]).max() <= GRAY_LEVELS


def test_normalize(stored):
    images = nchw(stored["augment_input"][None])  # as in evaluation, overshoot is kept
    expected = nchw(stored["normalized"][None])
    assert (normalize(images, IMAGENET_MEAN, IMAGENET_STD) - expected).abs().max() <= 1e-6
