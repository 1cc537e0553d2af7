from __future__ import annotations

import hashlib
import pickle
import tracemalloc

import numpy as np
import pytest

from normfree.data import open_source
from normfree.data.sources import synthetic
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


def test_the_classes_can_be_learned():
    """Nearest class mean of Fourier amplitudes, which do not depend on the phase."""
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


def test_a_large_source_is_made_on_access():
    tracemalloc.start()
    source = open_source("synthetic:1000000x192", "train")  # 110 GB
    image = source.image(999_999)
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()
    assert len(source) == len(source.labels) == 1_000_000
    assert image.shape == (192, 192, 3)
    assert source.channels == 3
    assert source.name(3) == "synthetic[3]"
    np.testing.assert_array_equal(source.image(999_999), image)
    assert not np.array_equal(source.image(999_989), image)  # another image of the same class
    val = open_source("synthetic:1000000x192", "val")
    assert len(val) == 250_000
    assert not np.array_equal(val.image(3), source.image(3))


def test_images_made_on_access_look_like_those_in_memory(monkeypatch):
    stored = open_source("synthetic:400x16x1", "train")
    monkeypatch.setattr(synthetic, "_IN_MEMORY", 0)
    source = open_source("synthetic:400x16x1", "train")
    np.testing.assert_array_equal(source.labels, stored.labels)
    assert source.classes == stored.classes
    pixels = np.stack([source.image(index) for index in range(400)])
    assert abs(pixels.mean() - stored.pixels.mean()) < 2
    assert abs(pixels.std() - stored.pixels.std()) < 2
    assert pickle.loads(pickle.dumps(source)).image(7).tolist() == source.image(7).tolist()


def test_small_sources_have_the_bits_that_golden_results_are_based_on():
    pixels = open_source("synthetic:64x8x1x5", "train").pixels
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "44c2798e3ebf3623"


@pytest.mark.parametrize(
    "spec",
    ["99999999999", "9" * 10_000, "64x100000", "64x4096x3", "64x8x4097", "400000x8x3x70000"],
)
def test_enormous_numbers_are_refused_before_anything_is_allocated(spec):
    tracemalloc.start()
    with pytest.raises(UserError, match=r"is too large: (examples|size|channels|classes|an image)"):
        open_source(f"synthetic:{spec}", "train")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_messages_stay_short():
    with pytest.raises(UserError) as caught:
        open_source(f"synthetic:{'x' * 10**6}", "train")
    assert len(str(caught.value)) < 300
