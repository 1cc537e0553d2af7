from __future__ import annotations

import sys

import pytest
import torch

from normfree.augment import IMAGENET_MEAN, IMAGENET_STD, normalize

MODULE = sys.modules[normalize.__module__]


def test_channel_by_channel():
    images = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    ours = normalize(images, mean=[10.0, 10.0, 10.0], std=[1.0, 2.0, 4.0])
    assert ours.flatten().tolist() == [0.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("given", "returned"),
    [(torch.uint8, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_dtypes(given, returned):
    images = torch.zeros(1, 3, 2, 2, dtype=given)
    ours = normalize(images, IMAGENET_MEAN, IMAGENET_STD)
    assert ours.dtype == returned
    expected = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(ours[0, :, 0, 0], expected.to(returned), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kernels", ["0", "1"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_chunks_match_the_equation_bit_for_bit(dtype, layout, kernels, monkeypatch):
    monkeypatch.setenv("NORMFREE_KERNELS", kernels)
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(7, 3, 5, 9, generator=generator) * 255).to(dtype)
    images = images.to(memory_format=layout)
    before = images.clone()
    floats = torch.float64 if dtype == torch.float64 else torch.float32
    mean, std = (torch.tensor(x, dtype=floats) for x in (IMAGENET_MEAN, IMAGENET_STD))
    expected = (images.to(floats) - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    for chunk in (1, 2 * 3 * 5 * 9, 1 << 17):
        monkeypatch.setattr(MODULE, "_CHUNK", chunk)
        ours = normalize(images, IMAGENET_MEAN, IMAGENET_STD)
        assert torch.equal(ours, expected)
        assert ours.is_contiguous(memory_format=layout)
    assert torch.equal(images, before)
    assert normalize(images[:0], IMAGENET_MEAN, IMAGENET_STD).shape == (0, 3, 5, 9)


@pytest.mark.parametrize("kernels", ["0", "1"])
@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (300, 3, 37, 41), (2, 1, 16, 16), (2, 0, 4, 4)])
def test_every_level_matches_the_equation_bit_for_bit(shape, kernels, monkeypatch):
    """Also for more memory than a huge page, and for any number of threads."""
    monkeypatch.setenv("NORMFREE_KERNELS", kernels)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    mean, std = (torch.tensor(x[: shape[1]]) for x in (IMAGENET_MEAN, IMAGENET_STD))
    expected = (images.float() - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert torch.equal(normalize(images, mean, std), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kernels", ["0", "1"])
def test_one_value_for_all_channels(kernels, monkeypatch):
    monkeypatch.setenv("NORMFREE_KERNELS", kernels)
    images = torch.full((2, 3, 4, 4), 30, dtype=torch.uint8)
    assert torch.equal(normalize(images, [10.0], [5.0]), torch.full((2, 3, 4, 4), 4.0))
