from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.data.crop import (
    distorted_bounding_box,
    random_crop_resize,
    random_resized_crop_box,
)
from normfree.data.preprocess import center_crop_resize
from normfree.data.resize import resize_bicubic

DRAWS = 20_000
LIMIT = math.log(4 / 3)  # largest absolute log aspect ratio


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


def test_an_image_too_small_for_a_box_is_used_whole():
    box = distorted_bounding_box(10, 1000, np.random.default_rng(0))
    assert box == (0, 0, 10, 1000)


def test_whole_images_become_the_center_crop(photographs):
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
        # A mirrored crop has mirrored samples, up to the rounding of the taps.
        np.testing.assert_allclose(ours, plain[:, ::-1], atol=0.5)
        mirrored += 1
    assert 160 <= mirrored <= 240  # four standard errors are 40


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 1000))
def test_a_resized_crop_lies_inside(height, width, seed):
    box = random_resized_crop_box(height, width, np.random.default_rng(seed))
    assert min(box.height, box.width) >= 1
    assert min(box.top, box.left) >= 0
    assert box.top + box.height <= height
    assert box.left + box.width <= width


def _chances(height, width):
    """Whether a box fits, for each area (rows) and log aspect ratio (columns)."""
    area = np.linspace(0.08, 1, 2000)[:, None]
    log_ratio = np.linspace(-LIMIT, LIMIT, 2001)
    not_too_wide = np.log(area * height / width) + log_ratio <= 0
    not_too_high = np.log(area * width / height) - log_ratio <= 0
    return area[:, 0], log_ratio, not_too_wide & not_too_high


def _check(values, places, density):
    """Kolmogorov–Smirnov test of values against a density, at p = 7e-4."""
    exact = np.cumsum(density) / density.sum()
    ours = np.searchsorted(np.sort(values), places, side="right") / len(values)
    assert np.abs(ours - exact).max() * len(values) ** 0.5 < 2


@pytest.fixture(scope="module", params=[(750, 1000), (1000, 750), (1000, 1000), (500, 2000)])
def resized_crops(request):
    """An image shape, the boxes drawn for it, and the number of failed draws."""
    height, width = request.param
    rng = np.random.default_rng(0)
    boxes = np.array([random_resized_crop_box(height, width, rng) for _ in range(DRAWS)])
    given_up = (boxes == random_resized_crop_box(height, width, rng, attempts=0)).all(axis=1)
    return request.param, boxes[~given_up], given_up.sum()


def test_areas_are_uniform_where_they_fit(resized_crops):
    (height, width), boxes, _ = resized_crops
    area, _, fits = _chances(height, width)
    _check(boxes[:, 2] * boxes[:, 3] / (height * width), area, fits.sum(axis=1))


def test_aspect_ratios_are_log_uniform_where_they_fit(resized_crops):
    shape, boxes, _ = resized_crops
    _, log_ratio, fits = _chances(*shape)
    _check(np.log(boxes[:, 3] / boxes[:, 2]), log_ratio, fits.sum(axis=0))


def test_places_are_uniform(resized_crops):
    shape, boxes, _ = resized_crops
    first, free = boxes[:, :2], np.array(shape) - boxes[:, 2:]
    jitter = np.random.default_rng(1).random(first.shape)  # makes integers continuous
    for place in ((first + jitter) / (free + 1)).T:
        _check(place, np.linspace(0, 1, 1001)[1:], np.ones(1000))


def test_ten_attempts_fail_as_often_as_they_should(resized_crops):
    shape, _, given_up = resized_crops
    chance = (1 - _chances(*shape)[2].mean()) ** 10
    assert abs(given_up - DRAWS * chance) <= 4 * (DRAWS * chance) ** 0.5


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((10, 1000), (0, 493, 10, 13)),  # 4 : 3
        ((1000, 10), (493, 0, 13, 10)),  # 3 : 4
        ((1, 1000), (0, 499, 1, 1)),
        ((100, 120), (0, 0, 100, 120)),
    ],
)
def test_a_resized_crop_that_fails_is_the_largest_central_one(shape, box):
    assert random_resized_crop_box(*shape, np.random.default_rng(0), attempts=0) == box


def test_the_ranges_are_of_width_over_height_and_of_the_share():
    rng = np.random.default_rng(0)
    ranges = {"aspect": (2, 3), "area": (0.1, 0.2)}
    boxes = [random_resized_crop_box(1000, 2000, rng, **ranges) for _ in range(200)]
    assert all(1.99 < box.width / box.height < 3.01 for box in boxes)
    assert all(0.0995 < box.width * box.height / 2e6 < 0.2005 for box in boxes)


def test_the_far_edges_are_reached():
    rng = np.random.default_rng(0)
    boxes = [random_resized_crop_box(9, 9, rng) for _ in range(2000)]
    assert {box.top for box in boxes} == {box.left for box in boxes} == set(range(8))
    assert any(box.top + box.height == 9 and box.left + box.width == 9 for box in boxes)


def test_torchvisions_crop_is_its_box(photographs):
    image = photographs["flower"]
    ours = random_crop_resize(image, 16, np.random.default_rng(4), flip=False, crop="torchvision")
    box = random_resized_crop_box(*image.shape[:2], np.random.default_rng(4))
    crop = image[box.top : box.top + box.height, box.left : box.left + box.width]
    np.testing.assert_array_equal(ours, resize_bicubic(crop, 16, 16))


def test_torchvisions_crop_may_be_the_whole_image(photographs):
    image, whole = photographs["flower"][200:220, 300:320], 0
    for seed in range(200):
        if random_resized_crop_box(20, 20, np.random.default_rng(seed)) == (0, 0, 20, 20):
            rng = np.random.default_rng(seed)
            ours = random_crop_resize(image, 16, rng, flip=False, crop="torchvision")
            np.testing.assert_array_equal(ours, resize_bicubic(image, 16, 16))
            assert not np.array_equal(ours, center_crop_resize(image, 16))
            whole += 1
    assert whole > 0
