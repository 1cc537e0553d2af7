"""Resizing gives the bytes of its equation with every instruction set."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from normfree import kernels
from normfree.data.resize import resample, resize_taps
from normfree.kernels import library
from normfree.kernels.resize import Axis

COMPILED = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["avx2", "avx512"]
SIZES = [(1, 1), (2, 3), (7, 5), (40, 33), (61, 90)]
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture(params=COMPILED)
def instruction_set(request):
    if not kernels.available() or not library.use(request.param):
        pytest.skip(f"no kernels for {request.param} here")
    yield
    library.use()


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("resize", ["tensorflow", "bicubic", "bilinear"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_every_size_is_the_same_to_the_bit(resize, channels, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        whole = rng.integers(0, 256, (height + 3, width + 4, channels), dtype=np.uint8)
        image = np.where(whole > 127, 255, 0).astype(np.uint8) if width == 33 else whole
        for out_height, out_width in SIZES:
            rows = Axis(*resize_taps(height, out_height, resize), origin=2)
            columns = resize_taps(width, out_width, resize)
            for axis in (Axis(*columns, origin=3), Axis(*columns, origin=width, step=-1)):
                ours = np.full((channels, out_height, out_width), 9, dtype=dtype)
                assert kernels.resize(image, rows, axis, ours)
                expected = np.full_like(ours, 7)
                with monkeypatch.context() as patch:
                    patch.setenv("NORMFREE_KERNELS", "0")
                    resample(image, rows, axis, expected)
                np.testing.assert_array_equal(ours, expected)


@pytest.mark.usefixtures("instruction_set")
def test_any_taps_inside_the_image_will_do(monkeypatch):
    """Also scattered, descending and repeated ones, and those of weight 0."""
    rng = np.random.default_rng(0)
    for number in range(40):
        inputs = rng.integers(0, 30, (9, 4)).astype(np.int32)
        if number % 2:
            inputs = np.clip(inputs[:, :1] + rng.integers(-3, 4, (9, 4)), 0, 29).astype(np.int32)
        weights = rng.standard_normal((9, 4)).astype(np.float32)
        weights[rng.random((9, 4)) < 0.4] = 0
        columns = Axis(inputs, weights)
        if number % 3 == 0:
            columns = columns._replace(origin=29, step=-1)
        rows = Axis(*resize_taps(20, 5))
        ours, expected = (np.zeros((3, 5, 9), dtype=np.float32) for _ in range(2))
        assert kernels.resize(IMAGE, rows, columns, ours)
        with monkeypatch.context() as patch:
            patch.setenv("NORMFREE_KERNELS", "0")
            resample(IMAGE, rows, columns, expected)
        np.testing.assert_array_equal(ours, expected)


def test_a_part_of_an_image_needs_no_copy():
    if not kernels.available():
        pytest.skip(str(kernels.status()))
    rows, columns = Axis(*resize_taps(8, 5)), Axis(*resize_taps(9, 6))
    part, found = IMAGE[3:11, 4:13], []
    for image in (part, part.copy()):
        found.append(np.empty((3, 5, 6), dtype=np.float32))
        assert kernels.resize(image, rows, columns, found[-1])
    np.testing.assert_array_equal(*found)


@pytest.mark.skipif(not kernels.available(), reason=str(kernels.status()))
class TestArguments:
    """They are checked before C gets their pointers."""

    rows, columns = Axis(*resize_taps(20, 5)), Axis(*resize_taps(30, 15))

    @pytest.mark.parametrize("origin", [-1, 1, 1 << 40, -(1 << 62)])
    @pytest.mark.parametrize("place", [0, 1])
    def test_taps_outside_the_image(self, origin, place):
        axes = [self.rows, self.columns]
        axes[place] = axes[place]._replace(origin=origin)
        with pytest.raises(ValueError, match="outside the image"):
            kernels.resize(IMAGE, *axes, np.empty((3, 5, 15), dtype=np.float32))

    @pytest.mark.parametrize("shape", [(3, 5, 16), (3, 6, 15), (1, 5, 15), (5, 15)])
    def test_a_result_of_another_shape(self, shape):
        with pytest.raises((ValueError, TypeCheckError)):
            kernels.resize(IMAGE, self.rows, self.columns, np.empty(shape, dtype=np.float32))

    def test_taps_of_another_kind(self):
        out = np.empty((3, 5, 15), dtype=np.float32)
        bad = self.rows._replace(inputs=self.rows.inputs.astype(np.int64))
        with pytest.raises(ValueError, match="contiguous int32"):
            kernels.resize(IMAGE, bad, self.columns, out)
        bad = self.rows._replace(weights=self.rows.weights[:4])
        with pytest.raises(ValueError, match="inputs have"):
            kernels.resize(IMAGE, bad, self.columns, out)

    def test_other_layouts_are_left_to_the_equation(self):
        out = np.empty((3, 5, 15), dtype=np.float32)
        for image in (IMAGE[:, ::-1], IMAGE[::-1], IMAGE.astype(np.float32)):
            assert not kernels.resize(image, self.rows, self.columns, out)
