"""Kernels match PyTorch operations, which other tests compare with the authors' bytes."""

from __future__ import annotations

import platform
from dataclasses import replace

import pytest
import torch

from normfree import kernels
from normfree.augment.levels import to_bytes
from normfree.augment.mix import Mix, draw_mix, mix, mix_bytes
from normfree.augment.randaugment import OPERATIONS, SIGNED, RandAugment
from normfree.augment.registry import TABLE, Level
from normfree.kernels import library

COMPILED = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["avx2", "avx512"]
LEVELS = [0, 1, 3.7, 5, 10, 15, 20]
SIZES = [(1, 1), (2, 3), (1, 9), (3, 3), (5, 7), (37, 29), (64, 67)]


@pytest.fixture(params=COMPILED, autouse=True)
def instruction_set(request):
    """Run each test with every compiled instruction set that this machine supports."""
    if not kernels.available() or not library.use(request.param):
        pytest.skip(f"no kernels for {request.param} here")
    yield
    library.use()


def _images(n, height, width, channels=3):
    """Noise, gradients with few levels, and one constant image."""
    generator = torch.Generator().manual_seed(height * width)
    shape = (n, channels, height, width)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    slopes = torch.arange(width) * 5 + torch.arange(height)[:, None] * 3
    images[: n // 2] = (slopes % 190 + 20 + images[: n // 2] % 8).to(torch.uint8)
    images[0] = 77
    return images


def _codes(name, one, other):
    """One layer in which all images get the same operation with either sign."""
    code = 2 * OPERATIONS.index(name)
    return torch.tensor([[code] * one + [code + 1] * other])


def _both(augment, images, plan, monkeypatch):
    """The outputs of PyTorch operations and of kernels."""
    with monkeypatch.context() as patch:
        patch.setenv("NORMFREE_KERNELS", "0")
        expected = augment(images, plan)
    assert kernels.available()
    return expected, augment(images, plan)


@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_the_same_to_the_bit(name, quirks, monkeypatch):
    for level in LEVELS:
        for height, width in SIZES:
            augment = RandAugment(1, level, quirks=quirks)
            plan = augment.draw(torch.arange(12), height, width)
            plan = replace(plan, codes=_codes(name, 6, 6))
            for channels in (1, 3):
                images = _images(12, height, width, channels)
                expected, ours = _both(augment, images, plan, monkeypatch)
                assert torch.equal(ours, expected), (level, height, width, channels)


def test_every_color_has_the_same_gray(monkeypatch):
    levels = torch.arange(256, dtype=torch.uint8)
    images = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij"), dim=1)
    augment = RandAugment(1, 0)  # Color's factor is 0.1
    plan = augment.draw(torch.arange(256), 256, 256)
    plan = replace(plan, codes=_codes("Color", 256, 0))
    expected, ours = _both(augment, images, plan, monkeypatch)
    assert torch.equal(ours, expected)


def test_strengths_of_one_sign_only_are_the_same():
    """Both codes of an operation give the same argument unless it has a sign."""
    for name in OPERATIONS:
        one, other = (TABLE[name].arguments(Level(10.0, sign, 9, 9, True)) for sign in (1, -1))
        assert (one == other) == (name not in SIGNED)


@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_whole_plans_are_the_same_to_the_bit(channels, quirks, monkeypatch):
    for level in LEVELS:
        augment, images = RandAugment(4, level, quirks=quirks), _images(48, 33, 41, channels)
        plan, before = augment.draw(torch.arange(48), 33, 41), images.clone()
        expected, ours = _both(augment, images, plan, monkeypatch)
        assert torch.equal(ours, expected)
        assert torch.equal(images, before)
        assert ours.is_contiguous()


def test_contrast_of_more_than_65_thousand_pixels_and_rows_beyond_a_vector(monkeypatch):
    augment, images = RandAugment(2, 10), _images(16, 251, 263)
    plan = augment.draw(torch.arange(16), 251, 263)
    expected, ours = _both(augment, images, plan, monkeypatch)
    assert torch.equal(ours, expected)


def test_any_order_in_memory(monkeypatch):
    augment, images = RandAugment(3, 10), _images(20, 9, 14)
    plan = augment.draw(torch.arange(20), 9, 14)
    expected, ours = _both(augment, images, plan, monkeypatch)
    assert torch.equal(ours, expected)
    gaps = torch.zeros(40, 3, 9, 28, dtype=torch.uint8)
    gaps[::2, :, :, ::2] = images
    for other in (images.to(memory_format=torch.channels_last), gaps[::2, :, :, ::2]):
        assert not other.is_contiguous()
        assert torch.equal(augment(other, plan), expected)


def test_no_images_and_nothing_to_do():
    augment = RandAugment(2, 10)
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4)):
        images = torch.empty(shape, dtype=torch.uint8)
        plan = augment.draw(torch.arange(shape[0]), 4, 4)
        assert augment(images, plan).shape == shape
    images = _images(2, 4, 4)
    idle = RandAugment(1, 0, quirks=False)
    plan = replace(idle.draw(torch.arange(2), 4, 4), codes=_codes("Rotate", 2, 0))
    assert idle(images, plan) is images


def test_the_number_of_threads_does_not_matter():
    augment, images = RandAugment(4, 10), _images(13, 20, 21)
    plan, threads = augment.draw(torch.arange(13), 20, 21), torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 5, 100):
            torch.set_num_threads(number)
            found.append(augment(images, plan))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(other, found[0]) for other in found[1:])


def _drawn(height, width, n=24):
    """MixUp and CutMix, also with ratios of exactly 0, ½ and 1, near ½, and unusual boxes."""
    drawn = draw_mix(torch.arange(n), torch.arange(n) % 2 == 0, height, width)
    half = torch.tensor(0.5)
    ends = [torch.tensor(0.0), half, torch.tensor(1.0), half.nextafter(drawn.ratio[0] * 0)]
    drawn.ratio[1:9:2] = torch.stack(ends)
    drawn.boxes[2] = torch.tensor([1, 1, 0, width])
    drawn.boxes[4] = torch.tensor([0, height, width, 0])  # bottom above top
    drawn.boxes[9] = torch.tensor([height // 3, height, width // 4, width // 2])
    return drawn


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_mixed_bytes_are_the_same_to_the_bit(height, width, channels, dtype):
    shape = (24, channels, height, width)
    images, others = _images(48, height, width, channels).view(2, *shape)
    if dtype == torch.float32:  # overshoot as after bicubic interpolation, and integers
        noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        images, others = torch.stack([images, others]) * 1.3 - 40 + noise
        images[::3], others[::3] = images[::3].round(), others[::3].round()
    drawn = _drawn(height, width)
    expected = to_bytes(mix(images, others, drawn))
    assert torch.equal(mix_bytes(images, others, drawn), expected)
    last = (x.to(memory_format=torch.channels_last) for x in (images, others))
    assert torch.equal(mix_bytes(*last, drawn), expected)
    part = Mix(*(x[3:20:4] for x in drawn))
    assert torch.equal(mix_bytes(images[3:20:4], others[3:20:4], part), expected[3:20:4])


def test_every_pair_of_bytes_is_mixed_the_same():
    levels = torch.arange(256, dtype=torch.uint8)
    images, others = torch.meshgrid(levels, levels, indexing="ij")
    shares = torch.tensor([share / whole for whole in range(3, 26) for share in range(1, whole)])
    n = len(shares)  # products are nearly integers, so rounding differences show
    images, others = (x.expand(n, 1, 256, 256) for x in (images, others))
    boxes = torch.tensor([0, 256, 0, 256]).expand(n, 4)
    drawn = Mix(shares, boxes, torch.zeros(n, dtype=torch.bool))
    assert torch.equal(mix_bytes(images, others, drawn), to_bytes(mix(images, others, drawn)))


@pytest.mark.parametrize("kernels", ["0", "1"])
@pytest.mark.parametrize(
    ("one", "other"), [(torch.float64, torch.float64), (torch.uint8, torch.float32)]
)
def test_other_dtypes_are_mixed_by_pytorch(one, other, kernels, monkeypatch):
    monkeypatch.setenv("NORMFREE_KERNELS", kernels)
    images, others = _images(24, 5, 6).to(one), _images(24, 5, 6).flip(0).to(other)
    drawn = _drawn(5, 6)
    assert torch.equal(mix_bytes(images, others, drawn), to_bytes(mix(images, others, drawn)))
    with pytest.raises((RuntimeError, ValueError)):
        mix_bytes(images, others[:, :, :3], drawn)
    with pytest.raises((RuntimeError, ValueError)):
        mix_bytes(images.byte(), others.byte(), Mix(*(x[:3] for x in drawn)))
    none = Mix(*(x[:0] for x in drawn))
    assert mix_bytes(images[:0], others[:0], none).shape == (0, 3, 5, 6)


def test_the_number_of_threads_does_not_matter_in_mixing():
    images, others, drawn = _images(24, 9, 8), _images(24, 9, 8).flip(0), _drawn(9, 8)
    threads, expected = torch.get_num_threads(), mix_bytes(images, others, drawn)
    try:
        for number in (1, 3, 100):
            torch.set_num_threads(number)
            assert torch.equal(mix_bytes(images, others, drawn), expected)
    finally:
        torch.set_num_threads(threads)
