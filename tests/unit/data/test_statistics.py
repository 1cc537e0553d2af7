from __future__ import annotations

import numpy as np
import pytest

from normfree.data import ArraySource, dataset_statistics


def _source(pixels):
    return ArraySource("test", pixels, np.zeros(len(pixels), dtype=np.int64), ("a", "b"))


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_numpy(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (2500, 3, 5, channels), dtype=np.uint8)
    mean, std = dataset_statistics(_source(pixels))
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)


def test_sums_too_large_for_64_bits():
    pixels = np.full((1, 7000, 7000, 1), 255, dtype=np.uint8)
    pixels[0, :3500] = 251
    assert dataset_statistics(_source(pixels)) == ((253.0,), (2.0,))


def test_a_channel_that_never_changes_has_standard_deviation_one():
    pixels = np.full((4, 2, 2, 1), 9, dtype=np.uint8)
    assert dataset_statistics(_source(pixels)) == ((9.0,), (1.0,))
