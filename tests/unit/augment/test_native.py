"""Kernels against PyTorch's operations, which other tests hold to the authors' bytes."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from normfree.augment import native
from normfree.augment.mix import Mix, draw_mix, mix, mix_bytes
from normfree.augment.native import build
from normfree.augment.operations import to_bytes
from normfree.augment.randaugment import OPERATIONS, SIGNED, Group, RandAugment

LEVELS = [0, 1, 3.7, 5, 10, 15, 20]
SIZES = [(1, 1), (2, 3), (1, 9), (3, 3), (5, 7), (37, 29), (64, 67)]

needs_kernels = pytest.mark.skipif(not native.available(), reason="there is no C compiler")


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has not asked for kernels yet; and after the test as before it."""
    monkeypatch.setattr(build, "_load", build.cache(build._load.__wrapped__))
    monkeypatch.delenv("NORMFREE_NATIVE", raising=False)


def _images(n, height, width, channels=3):
    """Noise, slopes of few levels, and one image of one level."""
    generator = torch.Generator().manual_seed(height * width)
    shape = (n, channels, height, width)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    slopes = torch.arange(width) * 5 + torch.arange(height)[:, None] * 3
    images[: n // 2] = (slopes % 190 + 20 + images[: n // 2] % 8).to(torch.uint8)
    images[0] = 77
    return images


def _both(augment, images, plan, monkeypatch):
    """What PyTorch's operations make, and what kernels do."""
    with monkeypatch.context() as patch:
        patch.setenv("NORMFREE_NATIVE", "0")
        expected = augment(images, plan)
    assert native.available()
    return expected, augment(images, plan)


@needs_kernels
@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_the_same_to_the_bit(name, quirks, monkeypatch):
    for level in LEVELS:
        for height, width in SIZES:
            augment = RandAugment(1, level, quirks=quirks)
            plan = augment.draw(torch.arange(12), height, width)
            plan = replace(plan, groups=((Group(name, 1, 0, 6), Group(name, -1, 6, 12)),))
            for channels in (1, 3):
                images = _images(12, height, width, channels)
                expected, ours = _both(augment, images, plan, monkeypatch)
                assert torch.equal(ours, expected), (level, height, width, channels)


@needs_kernels
def test_every_colour_has_the_same_grey(monkeypatch):
    levels = torch.arange(256, dtype=torch.uint8)
    images = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij"), dim=1)
    augment = RandAugment(1, 0)  # Color's factor is 0.1
    plan = augment.draw(torch.arange(256), 256, 256)
    plan = replace(plan, groups=((Group("Color", 1, 0, 256),),))
    expected, ours = _both(augment, images, plan, monkeypatch)
    assert torch.equal(ours, expected)


@needs_kernels
def test_strengths_of_one_sign_only_are_the_same():
    """What has no sign gets the same argument for either code, what has one another."""
    steps = RandAugment(1, 10)._steps(9, 9)
    for name, one, other in zip(OPERATIONS, steps[::2], steps[1::2], strict=True):
        assert (one == other) == (name not in SIGNED)


@needs_kernels
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


@needs_kernels
def test_contrast_of_more_than_65_thousand_pixels_and_rows_beyond_a_vector(monkeypatch):
    augment, images = RandAugment(2, 10), _images(16, 251, 263)
    plan = augment.draw(torch.arange(16), 251, 263)
    expected, ours = _both(augment, images, plan, monkeypatch)
    assert torch.equal(ours, expected)


@needs_kernels
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


@needs_kernels
def test_no_images_and_nothing_to_do():
    augment = RandAugment(2, 10)
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4)):
        images = torch.empty(shape, dtype=torch.uint8)
        plan = augment.draw(torch.arange(shape[0]), 4, 4)
        if shape[0] == 0:
            assert augment(images, plan).shape == shape
    images = _images(2, 4, 4)
    idle = RandAugment(1, 0, quirks=False)
    plan = replace(idle.draw(torch.arange(2), 4, 4), groups=((Group("Rotate", 1, 0, 2),),))
    assert idle(images, plan) is images


@needs_kernels
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
    """Both ways of mixing; also shares of exactly 0, ½ and 1, next to ½, and odd boxes."""
    drawn = draw_mix(torch.arange(n), torch.arange(n) % 2 == 0, height, width)
    half = torch.tensor(0.5)
    ends = [torch.tensor(0.0), half, torch.tensor(1.0), half.nextafter(drawn.ratio[0] * 0)]
    drawn.ratio[1:9:2] = torch.stack(ends)
    drawn.boxes[2] = torch.tensor([1, 1, 0, width])
    drawn.boxes[4] = torch.tensor([0, height, width, 0])  # ends before it begins
    drawn.boxes[9] = torch.tensor([height // 3, height, width // 4, width // 2])
    return drawn


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_mixed_bytes_are_the_same_to_the_bit(height, width, channels, dtype):
    shape = (24, channels, height, width)
    images, others = _images(48, height, width, channels).view(2, *shape)
    if dtype == torch.float32:  # beyond both ends, as after a bicubic; and whole numbers
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


@needs_kernels
def test_every_pair_of_bytes_is_mixed_the_same():
    levels = torch.arange(256, dtype=torch.uint8)
    images, others = torch.meshgrid(levels, levels, indexing="ij")
    shares = torch.tensor([share / whole for whole in range(3, 26) for share in range(1, whole)])
    n = len(shares)  # products with these are nearly whole: how they are rounded shows
    images, others = (x.expand(n, 1, 256, 256) for x in (images, others))
    boxes = torch.tensor([0, 256, 0, 256]).expand(n, 4)
    drawn = Mix(shares, boxes, torch.zeros(n, dtype=torch.bool))
    assert torch.equal(mix_bytes(images, others, drawn), to_bytes(mix(images, others, drawn)))


@pytest.mark.parametrize("kernels", ["0", "1"])
@pytest.mark.parametrize(
    ("one", "other"), [(torch.float64, torch.float64), (torch.uint8, torch.float32)]
)
def test_other_dtypes_are_mixed_by_pytorch(one, other, kernels, monkeypatch):
    monkeypatch.setenv("NORMFREE_NATIVE", kernels)
    images, others = _images(24, 5, 6).to(one), _images(24, 5, 6).flip(0).to(other)
    drawn = _drawn(5, 6)
    assert torch.equal(mix_bytes(images, others, drawn), to_bytes(mix(images, others, drawn)))
    with pytest.raises((RuntimeError, ValueError)):
        mix_bytes(images, others[:, :, :3], drawn)
    with pytest.raises((RuntimeError, ValueError)):
        mix_bytes(images.byte(), others.byte(), Mix(*(x[:3] for x in drawn)))
    none = Mix(*(x[:0] for x in drawn))
    assert mix_bytes(images[:0], others[:0], none).shape == (0, 3, 5, 6)


@needs_kernels
def test_the_number_of_threads_does_not_matter_in_mixing():
    images, others, drawn = _images(24, 9, 8), _images(24, 9, 8).flip(0), _drawn(9, 8)
    threads, expected = torch.get_num_threads(), mix_bytes(images, others, drawn)
    try:
        for number in (1, 3, 100):
            torch.set_num_threads(number)
            assert torch.equal(mix_bytes(images, others, drawn), expected)
    finally:
        torch.set_num_threads(threads)


def test_kernels_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("NORMFREE_NATIVE", "0")
    monkeypatch.setattr(build, "_load", lambda: pytest.fail("kernels were loaded"))
    assert not native.available()
    augment = RandAugment(1, 10)
    assert augment(_images(4, 6, 6), augment.draw(torch.arange(4), 6, 6)).shape == (4, 3, 6, 6)


def homeless():
    raise RuntimeError("who are you")  # as Path.home() where the user is unknown


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("no compiler", "no C compiler"),
        ("no such compiler", "/nowhere/cc"),
        ("compiler fails", "cannot compile today"),
        ("nowhere to write", "directory"),
        ("no home", "who are you"),
        ("compiles what cannot be loaded", "augment"),
    ],
)
def test_without_kernels_pytorch_does_the_work(
    trouble, reason, fresh, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\nfor last; do :; done\necho no library > ${last%-lm}x\n")
    match trouble:
        case "no compiler":
            monkeypatch.delenv("CC", raising=False)
            monkeypatch.setattr(build.shutil, "which", lambda _: None)
        case "no such compiler":
            monkeypatch.setenv("CC", "/nowhere/cc")
        case "compiler fails":
            compiler.write_text("#!/bin/sh\necho cannot compile today >&2\nexit 1\n")
        case "no home":
            monkeypatch.delenv("XDG_CACHE_HOME")
            monkeypatch.setattr(build.Path, "home", homeless)
            compiler.write_text("#!/bin/sh\n")
            monkeypatch.setenv("CC", str(compiler))
        case "nowhere to write":
            (tmp_path / "file").write_text("")
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
            compiler.write_text("#!/bin/sh\n")
        case _:
            script = (
                '#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && echo no > "$2"; shift; done\n'
            )
            compiler.write_text(script)
    compiler.chmod(0o755)
    if not trouble.startswith("no "):
        monkeypatch.setenv("CC", str(compiler))
    with caplog.at_level(logging.DEBUG, logger="normfree"):
        assert not native.available()
    assert reason in caplog.text
    augment = RandAugment(1, 10)
    assert augment(_images(4, 6, 6), augment.draw(torch.arange(4), 6, 6)).shape == (4, 3, 6, 6)


@needs_kernels
def test_kernels_are_compiled_once_and_kept(fresh, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.available()
    (made,) = (tmp_path / "normfree").iterdir()
    before = made.stat().st_mtime_ns
    build._load.cache_clear()
    assert native.available()
    assert [*(tmp_path / "normfree").iterdir()] == [made]
    assert made.stat().st_mtime_ns == before


@needs_kernels
def test_processes_that_compile_at_once_do_not_meet(tmp_path):
    code = "from normfree.augment import native; assert native.available()"
    with_cache = {**build.os.environ, "XDG_CACHE_HOME": str(tmp_path), "NORMFREE_NATIVE": "1"}
    several = [subprocess.Popen([sys.executable, "-c", code], env=with_cache) for _ in range(2)]
    assert [process.wait() for process in several] == [0, 0]
    assert len([*(tmp_path / "normfree").iterdir()]) == 1
