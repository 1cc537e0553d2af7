"""The random crop against the measured distribution of TensorFlow's sampler."""

from __future__ import annotations

import numpy as np
import pytest

from normfree.data.crop import distorted_bounding_box
from tests.parity.reference import table

MEASURED = table("randaugment_ops")["measured_crop_distribution"]
DRAWS = 20_000


@pytest.fixture(scope="module", params=sorted(MEASURED))
def crops(request):
    """Measurements for an image shape, and an equal number of our boxes."""
    height, width = map(int, request.param.split("x"))
    rng = np.random.default_rng(0)
    boxes = [distorted_bounding_box(height, width, rng) for _ in range(DRAWS)]
    return MEASURED[request.param], (height, width), np.array(boxes)


def _check_percentiles(values, percentiles, measured, rounding=5e-5):
    """Check that each measured percentile splits our draws like TensorFlow's.

    The fraction of our draws below a percentile has a standard error of √(2p(1−p)/n), including the
    error of TensorFlow's; four standard errors are allowed. The stored values are rounded, so the
    fraction is computed on both sides of the rounding.
    """
    p = np.array(percentiles) / 100
    below = np.array([(values < v - rounding).mean() for v in measured])
    up_to = np.array([(values <= v + rounding).mean() for v in measured])
    error = 4 * np.sqrt(2 * p * (1 - p) / DRAWS)
    assert np.all(below <= p + error), (below, p, error)
    assert np.all(up_to >= p - error), (up_to, p, error)


def test_area(crops):
    facts, (height, width), boxes = crops
    area = boxes[:, 2] * boxes[:, 3] / (height * width)
    _check_percentiles(area, facts["percentiles"], facts["area_fraction"])
    standard_error = area.std() * np.sqrt(2 / DRAWS)
    assert abs(area.mean() - facts["mean_area"]) < 4 * standard_error + 5e-5


def test_aspect_ratio(crops):
    facts, _, boxes = crops
    _check_percentiles(boxes[:, 3] / boxes[:, 2], facts["percentiles"], facts["aspect_w_over_h"])


def test_height(crops):
    facts, (height, _), boxes = crops
    fraction = boxes[:, 2] / height
    standard_error = fraction.std() * np.sqrt(2 / DRAWS)
    assert abs(fraction.mean() - facts["mean_linear_height_frac"]) < 4 * standard_error + 5e-5


def test_whole_images_are_rare(crops):
    facts, (height, width), boxes = crops
    whole = ((boxes[:, 2] == height) & (boxes[:, 3] == width)).mean()
    assert abs(whole - facts["frac_full_image"]) <= 4 / DRAWS
