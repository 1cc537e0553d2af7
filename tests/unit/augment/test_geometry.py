from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from normfree.augment.geometry import rotate, shear_x, shear_y, translate_x, translate_y

F32 = np.float32
SHAPES = [(1, 1), (1, 6), (5, 1), (8, 8), (7, 12), (13, 9)]
LEVELS = [0, 1, 3.7, 5, 10, 15, 20]


def _images(height, width, n=2, channels=3):
    rng = np.random.default_rng(height * 100 + width)
    return rng.integers(0, 256, (n, channels, height, width), dtype=np.uint8)


def _nearest(place):
    return int(math.copysign(math.floor(abs(float(place)) + 0.5), float(place)))


def _moved(images, place):
    """Move pixel by pixel; ``place(row, column)`` is the input position in float32."""
    _, _, height, width = images.shape
    result = np.full_like(images, 128)
    for row in range(height):
        for column in range(width):
            y, x = (_nearest(part) for part in place(F32(row), F32(column)))
            if 0 <= y < height and 0 <= x < width:
                result[:, :, row, column] = images[:, :, y, x]
    return result


def _rotation(degrees, height, width):
    angle = F32(degrees) * F32(math.pi / 180)
    cos, sin = np.cos(angle), np.sin(angle)
    right, bottom = F32(width - 1), F32(height - 1)
    x0 = (right - (cos * right - sin * bottom)) / F32(2)
    y0 = (bottom - (sin * right + cos * bottom)) / F32(2)
    return lambda y, x: ((sin * x + cos * y) + y0, (cos * x - sin * y) + x0)


def _check(function, argument, images, place):
    given, before = torch.from_numpy(images), images.copy()
    ours = function(given, argument)
    np.testing.assert_array_equal(ours.numpy(), _moved(images, place))
    np.testing.assert_array_equal(images, before)
    transposed = given.transpose(2, 3).contiguous().transpose(2, 3)  # another memory layout
    assert torch.equal(function(transposed, argument), ours)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("height", "width"), SHAPES)
class TestAgainstNumPy:
    """Byte-for-byte comparison at any level with either sign."""

    def test_rotate(self, height, width, level, sign):
        degrees = sign * level * 3
        place = _rotation(degrees, height, width)
        _check(rotate, degrees, _images(height, width), place)

    def test_shear_x(self, height, width, level, sign):
        shear = sign * level * 0.03
        _check(shear_x, shear, _images(height, width), lambda y, x: (y, x + F32(shear) * y))

    def test_shear_y(self, height, width, level, sign):
        shear = sign * level * 0.03
        _check(shear_y, shear, _images(height, width), lambda y, x: (F32(shear) * x + y, x))

    @pytest.mark.parametrize("scale", [0.45, 1.0, 100.0])
    def test_translate(self, height, width, level, sign, scale):
        pixels = sign * level * scale
        images = _images(height, width)
        _check(translate_x, pixels, images, lambda y, x: (y, x + F32(pixels)))
        _check(translate_y, pixels, images, lambda y, x: (y + F32(pixels), x))


@pytest.mark.parametrize("shear", [0.3, -0.3, 0.45, -0.5, 1.7, -40.0])
def test_shears_of_a_larger_image_follow_float32(shear):
    """If ``shear·row`` is near one half, its rounding differs between columns."""
    images = _images(61, 131, n=1, channels=1)
    _check(shear_x, shear, images, lambda y, x: (y, x + F32(shear) * y))
    _check(shear_y, shear, images, lambda y, x: (F32(shear) * x + y, x))


def test_some_pixels_move_differently_from_their_row():
    rows = np.arange(61, dtype=F32)[:, None]
    places = np.arange(131, dtype=F32) - F32(0.3) * rows
    shifts = np.floor(places + F32(0.5)) - np.arange(131)
    assert (shifts != shifts[:, :1]).any()


@pytest.mark.parametrize("pixels", [0.5, -0.5, 2.5, -2.5, 2.49999, 1e9])
def test_halves_go_away_from_zero(pixels):
    images = _images(3, 9)
    _check(translate_x, pixels, images, lambda y, x: (y, x + F32(pixels)))


def test_four_quarter_turns_are_the_identity():
    images = torch.from_numpy(_images(11, 11))
    turned = rotate(images, 90)
    assert torch.equal(turned, torch.rot90(images, 1, (2, 3)))
    assert torch.equal(rotate(rotate(rotate(turned, 90), 90), 90), images)
    assert torch.equal(rotate(turned, -90), images)


@pytest.mark.parametrize("function", [rotate, shear_x, shear_y, translate_x, translate_y])
def test_moving_by_zero_changes_nothing(function):
    images = torch.from_numpy(_images(5, 7))
    assert torch.equal(function(images, 0.0), images)
    assert torch.equal(function(images[:0], 3.0), images[:0])
