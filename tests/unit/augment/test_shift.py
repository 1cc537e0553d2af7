from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree.augment import shift
from normfree.random import example_keys

KEYS = torch.from_numpy(example_keys(0, 0, np.arange(4000)))


def _numpy_shift(image, down, right, mirror, padding):
    """Shift one image in NumPy."""
    _, height, width = image.shape
    padded = np.pad(image, [(0, 0), (padding, padding), (padding, padding)])
    cut = padded[:, down : down + height, right : right + width]
    return cut[..., ::-1] if mirror else cut


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 5, 7)])
def test_every_image_is_one_of_the_possible_shifts(dtype, channels, height, width):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (50, channels, height, width), dtype=np.uint8)
    moved = shift(torch.from_numpy(images).to(dtype), KEYS[:50], 2, flip=True)
    assert moved.dtype == dtype
    seen = set()
    for image, ours in zip(images, moved.numpy(), strict=True):
        places = [(d, r, m) for d in range(5) for r in range(5) for m in (False, True)]
        matches = [p for p in places if np.array_equal(_numpy_shift(image, *p, 2), ours)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 20


def test_an_image_does_not_depend_on_its_batch():
    images = torch.randint(0, 256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    whole = shift(images, KEYS[:64], 2, flip=True)
    chosen = torch.tensor([50, 3, 3, 17])
    assert torch.equal(shift(images[chosen], KEYS[chosen], 2, flip=True), whole[chosen])


def test_displacements_are_uniform_and_half_are_mirrored():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4], image[0, 0, 4, 5] = 1, 2  # the second pixel marks the right side
    moved = shift(image.expand(len(KEYS), -1, -1, -1), KEYS, 2, flip=True)
    _, _, rows, columns = torch.nonzero(moved == 1, as_tuple=True)
    for place in (rows, columns):
        counts = torch.bincount(place, minlength=9)[2:7]
        assert counts.sum() == len(KEYS)
        assert (counts - 800).abs().max() < 4 * (4000 * 0.2 * 0.8) ** 0.5
    right = torch.nonzero(moved == 2, as_tuple=True)[3] > columns
    assert abs(right.sum().item() - 2000) < 4 * 1000**0.5


def test_no_padding_and_no_flip_do_nothing():
    images = torch.arange(32).view(2, 1, 4, 4)
    assert torch.equal(shift(images, KEYS[:2], 0), images)


def test_an_empty_batch():
    assert shift(torch.zeros(0, 3, 4, 4), KEYS[:0], 1).shape == (0, 3, 4, 4)
