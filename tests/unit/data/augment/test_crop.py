from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.augment import distorted_bounding_box, random_crop_resize
from normfree.data.preprocess import center_crop_resize
from normfree.data.resize import resize_bicubic


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 1000))
def test_a_box_lies_inside_and_is_large_enough(height, width, seed):
    box = distorted_bounding_box(height, width, np.random.default_rng(seed))
    assert box.top >= 0
    assert box.left >= 0
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    assert 0.1 <= box.height * box.width / (height * width) <= 1


def test_the_largest_height_is_drawn_too():
    rng = np.random.default_rng(0)
    heights = {distorted_bounding_box(10, 40, rng).height for _ in range(200)}
    assert heights == {6, 7, 8, 9, 10}


def test_a_picture_that_cannot_hold_a_box_is_taken_whole():
    box = distorted_bounding_box(10, 1000, np.random.default_rng(0))
    assert box == (0, 0, 10, 1000)


def test_whole_pictures_become_the_centre_crop(photographs):
    image = photographs["china"][:10]
    rng = np.random.default_rng(0)
    ours = random_crop_resize(image, 16, rng, flip=False)
    np.testing.assert_array_equal(ours, center_crop_resize(image, 16))


def test_the_crop_is_the_box(photographs):
    image = photographs["flower"]
    ours = random_crop_resize(image, 16, np.random.default_rng(4), flip=False)
    box = distorted_bounding_box(*image.shape[:2], np.random.default_rng(4))
    crop = image[box.top : box.top + box.height, box.left : box.left + box.width]
    np.testing.assert_array_equal(ours, resize_bicubic(crop, 16, 16))


def test_about_half_are_mirrored(photographs):
    image = photographs["china"][:60, :60]
    mirrored = 0
    for seed in range(400):
        plain = random_crop_resize(image, 8, np.random.default_rng(seed), flip=False)
        ours = random_crop_resize(image, 8, np.random.default_rng(seed))
        if np.allclose(ours, plain, atol=1e-3):
            continue
        # The samples of a mirrored crop are mirrored: only the rounding of the taps differs.
        np.testing.assert_allclose(ours, plain[:, ::-1], atol=0.5)
        mirrored += 1
    assert 160 <= mirrored <= 240  # four standard errors: 40
