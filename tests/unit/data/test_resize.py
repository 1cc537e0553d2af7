from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.resize import cubic_taps, keys_cubic, resize_bicubic

sides = st.integers(1, 60)


@given(sides, sides)
def test_the_taps_of_an_output_sum_to_one_and_stay_inside(length, out):
    taps = cubic_taps(length, out)
    np.testing.assert_allclose(taps.weights.sum(axis=1), 1, atol=1e-6)
    assert taps.inputs.min() >= 0
    assert taps.inputs.max() < length


@given(sides, sides, sides, sides)
def test_a_constant_image_stays_constant(height, width, out_height, out_width):
    image = np.full((height, width, 2), 77, dtype=np.uint8)
    ours = resize_bicubic(image, out_height, out_width)
    assert ours.shape == (out_height, out_width, 2)
    np.testing.assert_allclose(ours, 77, atol=1e-4)


def test_the_same_size_is_the_same_image():
    image = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_bicubic(image, 9, 6), image)


def test_a_slope_is_resized_exactly_away_from_the_edge():
    image = np.tile(np.arange(20, dtype=np.float32)[:, None, None], (1, 5, 1))
    ours = resize_bicubic(image, 40, 5)[:, 0, 0]
    expected = (np.arange(40) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(ours[4:-4], expected[4:-4], atol=1e-5)


def test_it_does_not_clamp():
    image = np.zeros((8, 8, 1), dtype=np.uint8)
    image[4:] = 255
    ours = resize_bicubic(image, 16, 16)
    assert ours.min() < -5
    assert ours.max() > 260


def test_a_window_is_a_part_of_the_whole():
    image = np.random.default_rng(0).integers(0, 256, (30, 21, 3), dtype=np.uint8)
    window = (slice(2, 9), slice(5, 17))
    np.testing.assert_array_equal(
        resize_bicubic(image, 14, 18, window), resize_bicubic(image, 14, 18)[window]
    )


def test_rows_and_columns_are_not_mixed_up():
    image = np.random.default_rng(0).integers(0, 256, (30, 21, 3), dtype=np.uint8)
    turned = resize_bicubic(image.transpose(1, 0, 2), 18, 14).transpose(1, 0, 2)
    np.testing.assert_allclose(resize_bicubic(image, 14, 18), turned, atol=1e-3)


def test_the_kernel_interpolates():
    x = np.arange(-3, 4, dtype=np.float32)
    assert keys_cubic(x).tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_shared_taps_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        cubic_taps(5, 3).weights[0, 0] = 2
