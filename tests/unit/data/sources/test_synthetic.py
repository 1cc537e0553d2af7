from __future__ import annotations

import numpy as np
import pytest

from normfree.data import open_source
from normfree.errors import UserError


@pytest.mark.parametrize(
    ("spec", "shape", "classes"),
    [
        ("synthetic:64", (64, 32, 32, 3), 10),
        ("synthetic:40x12", (40, 12, 12, 3), 10),
        ("synthetic:40x12x1", (40, 12, 12, 1), 10),
        ("synthetic:40x12x1x5", (40, 12, 12, 1), 5),
    ],
)
def test_the_forms(spec, shape, classes):
    source = open_source(spec, "train")
    assert source.pixels.shape == shape
    assert len(source.classes) == classes
    assert len(open_source(spec, "val")) == shape[0] // 4
    assert set(source.labels) == set(range(classes))


def test_the_same_every_time_and_different_in_val():
    first, second = (open_source("synthetic:40", "train") for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    val = open_source("synthetic:160", "val")
    assert not np.array_equal(first.pixels[0], val.pixels[0])


def test_the_classes_can_be_learnt():
    """The amplitude of the Fourier transform does not see the phase: nearest class mean."""
    train, val = (open_source("synthetic:800x16x1", split) for split in ("train", "val"))
    spectra = [np.abs(np.fft.fft2(s.pixels[..., 0] - 128.0)) for s in (train, val)]
    means = np.stack([spectra[0][train.labels == label].mean(axis=0) for label in range(10)])
    distance = ((spectra[1][:, None] - means) ** 2).sum(axis=(2, 3))
    assert (distance.argmin(axis=1) == val.labels).mean() > 0.8


@pytest.mark.parametrize("spec", ["0", "x3", "12.5", "40x", "40x8x3x5x2", "-4", "ten"])
def test_forms_that_are_wrong(spec):
    with pytest.raises(UserError, match="is not understood: write synthetic:N"):
        open_source(f"synthetic:{spec}", "train")


def test_fewer_images_than_classes():
    with pytest.raises(UserError, match="ask for at least 40 images"):
        open_source("synthetic:39", "val")
    with pytest.raises(UserError, match="2 classes"):
        open_source("synthetic:39x8x1x1", "val")
