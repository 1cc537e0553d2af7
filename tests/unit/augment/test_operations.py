from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from normfree.augment import operations
from normfree.augment.levels import chunk_length, to_bytes

F32 = np.float32
SHAPES = [(1, 1), (1, 5), (4, 1), (2, 2), (3, 3), (7, 5), (17, 16)]
LEVELS = [0, 1, 3.7, 5, 10, 15, 20]
FACTORS = [level / 10 * 1.8 + 0.1 for level in LEVELS]


def _images(height, width, channels=3, n=4):
    """Noise, noise with few levels, a constant image and a gradient."""
    rng = np.random.default_rng(height * 100 + width)
    shape = (channels, height, width)
    images = [
        rng.integers(0, 256, shape),
        rng.integers(100, 104, shape),
        np.full(shape, 77),
        np.linspace(0, 255, int(np.prod(shape))).reshape(shape),
    ]
    return np.stack(images[:n]).astype(np.uint8)


def _bytes(x):
    return np.clip(x, 0, 255).astype(np.uint8)


def _blend(other, x, factor):
    other, x = other.astype(F32), x.astype(F32)
    return _bytes(other + F32(factor) * (x - other))


def _auto_contrast(channel):
    low, high = F32(channel.min()), F32(channel.max())
    if low == high:
        return channel
    scale = F32(255) / (high - low)
    return _bytes(channel.astype(F32) * scale - low * scale)


def _equalize(channel):
    counts = np.bincount(channel.ravel(), minlength=256)
    step = (counts.sum() - counts[counts > 0][-1]) // 255
    if step == 0:
        return channel
    table = [min(255, (counts[:level].sum() + step // 2) // step) for level in range(256)]
    return np.array(table, dtype=np.uint8)[channel]


def _color(image, factor):
    if len(image) == 1:
        return image
    red, green, blue = image.astype(np.float64)
    gray = np.floor((0.2989 * red + 0.5870 * green + 0.1140 * blue) * 255.5 / 255)
    return _blend(gray[None], image, factor)


def _sharpness(image, factor):
    if min(image.shape[1:]) < 3:
        return image
    _, height, width = image.shape
    smooth = np.zeros((len(image), height - 2, width - 2), dtype=F32)
    for row in range(3):
        for column in range(3):
            weight = F32(5 / 13) if row == column == 1 else F32(1 / 13)
            tap = image[:, row : height - 2 + row, column : width - 2 + column]
            smooth = (smooth + tap.astype(np.float64) * np.float64(weight)).astype(F32)
    result = image.copy()
    result[:, 1:-1, 1:-1] = _blend(_bytes(smooth), image[:, 1:-1, 1:-1], factor)
    return result


def _cutout(image, row, column, pad):
    result = image.copy()
    result[:, max(0, row - pad) : row + pad, max(0, column - pad) : max(0, column + pad)] = 128
    return result


def _each(function, images, *arguments):
    return np.stack([function(image, *arguments) for image in images])


def _each_channel(function, images):
    return np.stack([_each(function, image) for image in images])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SHAPES)
class TestAgainstNumPy:
    """Byte-for-byte comparison on odd-sized, constant and tiny images."""

    def check(self, expected, function, images, *arguments):
        given, before = torch.from_numpy(images), images.copy()
        ours = function(given, *arguments)
        assert ours.dtype == torch.uint8
        np.testing.assert_array_equal(ours.numpy(), expected)
        np.testing.assert_array_equal(images, before)
        transposed = given.transpose(2, 3).contiguous().transpose(2, 3)  # another memory layout
        assert torch.equal(function(transposed, *arguments), ours)

    def test_auto_contrast(self, height, width, channels):
        images = _images(height, width, channels)
        self.check(_each_channel(_auto_contrast, images), operations.auto_contrast, images)

    def test_equalize(self, height, width, channels):
        images = _images(height, width, channels)
        self.check(_each_channel(_equalize, images), operations.equalize, images)

    def test_invert(self, height, width, channels):
        images = _images(height, width, channels)
        self.check(255 - images, operations.invert, images)

    @pytest.mark.parametrize("bits", range(9))
    def test_posterize(self, height, width, channels, bits):
        images = _images(height, width, channels)
        expected = (images.astype(int) >> (8 - bits) << (8 - bits)).astype(np.uint8)
        self.check(expected, operations.posterize, images, bits)

    @pytest.mark.parametrize("threshold", [0, 1, 25, 77, 78, 128, 255, 256])
    def test_solarize(self, height, width, channels, threshold):
        images = _images(height, width, channels)
        expected = np.where(images >= threshold, 255 - images, images)
        self.check(expected, operations.solarize, images, threshold)

    @pytest.mark.parametrize("addition", [0, 1, 55, 110, 165, 220, 255, 300])
    def test_solarize_add(self, height, width, channels, addition):
        images = _images(height, width, channels)
        added = _bytes(images.astype(int) + addition)
        expected = np.where(images < 128, added, images)
        self.check(expected, operations.solarize_add, images, addition)

    @pytest.mark.parametrize("factor", FACTORS)
    def test_color(self, height, width, channels, factor):
        images = _images(height, width, channels)
        self.check(_each(_color, images, factor), operations.color, images, factor)

    @pytest.mark.parametrize("factor", FACTORS)
    def test_brightness(self, height, width, channels, factor):
        images = _images(height, width, channels)
        expected = _blend(np.zeros_like(images), images, factor)
        self.check(expected, operations.brightness, images, factor)

    @pytest.mark.parametrize("factor", FACTORS)
    def test_contrast(self, height, width, channels, factor):
        images = _images(height, width, channels)
        gray = np.full_like(images, min(255, height * width // 256))
        self.check(_blend(gray, images, factor), operations.contrast, images, factor)

    @pytest.mark.parametrize("factor", FACTORS)
    def test_sharpness(self, height, width, channels, factor):
        images = _images(height, width, channels)
        self.check(_each(_sharpness, images, factor), operations.sharpness, images, factor)

    @pytest.mark.parametrize("pad", [0, 1, 2, 40])
    def test_cutout(self, height, width, channels, pad):
        images = _images(height, width, channels)
        rng = np.random.default_rng(pad)
        rows, columns = rng.integers(height, size=4), rng.integers(width, size=4)
        expected = np.stack(
            [_cutout(*each, pad) for each in zip(images, rows, columns, strict=True)]
        )
        centers = (torch.from_numpy(rows), torch.from_numpy(columns))
        self.check(expected, operations.cutout, images, *centers, pad)


@pytest.mark.parametrize(("height", "width"), [(9, 7), (40, 41), (300, 260)])
def test_the_quirk_of_contrast_counts_pixels(height, width):
    images = torch.from_numpy(_images(height, width, n=1))
    flat = operations.contrast(images, 0.0)
    assert flat.unique().tolist() == [min(255, height * width // 256)]


@pytest.mark.parametrize("factor", [0.1, 0.55, 1.0, 1.45, 1.9])
@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_without_the_quirk_is_pillows(factor, channels):
    images = _images(17, 16, channels)
    ours = operations.contrast(torch.from_numpy(images), factor, quirks=False).numpy()
    for image, found in zip(images, ours, strict=True):
        pillow = Image.fromarray(image.transpose(1, 2, 0).squeeze())
        expected = np.asarray(ImageEnhance.Contrast(pillow).enhance(factor))
        np.testing.assert_array_equal(found.transpose(1, 2, 0).squeeze(), expected)


def test_equalize_and_posterize_and_solarize_are_pillows():
    image = _images(33, 47, n=1)
    pillow = Image.fromarray(image[0].transpose(1, 2, 0))
    pairs = [
        (operations.equalize(torch.from_numpy(image)), ImageOps.equalize(pillow)),
        (operations.posterize(torch.from_numpy(image), 3), ImageOps.posterize(pillow, 3)),
        (operations.solarize(torch.from_numpy(image), 60), ImageOps.solarize(pillow, 60)),
    ]
    for ours, expected in pairs:
        np.testing.assert_array_equal(ours[0].permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize(
    "function",
    [operations.color, operations.contrast, operations.brightness, operations.sharpness],
)
def test_a_factor_of_one_changes_nothing(function):
    images = torch.from_numpy(_images(17, 16))
    assert torch.equal(function(images, 1.0), images)


def test_bytes_are_clipped_and_truncated():
    values = torch.tensor([-1e9, -0.5, 0.0, 0.999, 1.0, 127.5, 254.9999, 255.0, 255.9, 1e9])
    expected = torch.tensor([0, 0, 0, 0, 1, 127, 254, 255, 255, 255], dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(to_bytes(values.to(dtype).view(1, 1, 2, 5)).flatten(), expected)


def test_bytes_of_a_batch_of_many_chunks():
    images = torch.rand(7, 3, 300, 301, generator=torch.Generator().manual_seed(0)) * 300 - 20
    assert chunk_length(images) == 3
    assert torch.equal(to_bytes(images), images.clamp(0, 255).to(torch.uint8))


@settings(max_examples=30)
@given(
    x=st.lists(st.integers(0, 255), min_size=1, max_size=40),
    level=st.floats(0, 30, allow_nan=False),
)
def test_results_stay_bytes_in_order(x, level):
    """Operations that brighten or darken preserve the order of gray levels and never wrap."""
    images = torch.tensor(sorted(x), dtype=torch.uint8).view(1, 1, 1, -1)
    for function in (operations.brightness, operations.contrast):
        y = function(images, level / 10 * 1.8 + 0.1).int().flatten()
        assert (y.diff() >= 0).all()
    for y in (operations.auto_contrast(images), operations.equalize(images)):
        assert (y.int().flatten().diff() >= 0).all()
    added = operations.solarize_add(images, int(level * 11))
    assert (added >= images).all()
