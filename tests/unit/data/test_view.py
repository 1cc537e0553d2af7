"""A view of a file, decoded in parts, is the view of the whole image."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from normfree.data import (
    Box,
    EncodedImage,
    EvalTransform,
    TrainTransform,
    View,
    ViewTransform,
    decode,
    open_image,
    render,
    resize_bicubic,
)
from normfree.data.sources import EncodedSource, FolderSource
from normfree.data.view import Pixels
from normfree.errors import BadImageError

TRANSFORMS = [
    TrainTransform(24),
    TrainTransform(24, crop="torchvision", resize="bilinear"),
    TrainTransform(24, dtype="uint8"),
    EvalTransform(24, 8),
    EvalTransform(24, 8, keep_aspect=True, resize="bicubic"),
    EvalTransform(24, margin=0, dtype="uint8"),
]


def _encoded(pixels, kind="jpeg", orientation=1, **options):
    file, exif = io.BytesIO(), Image.Exif()
    if orientation > 1:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, kind, exif=exif, **options)
    return file.getvalue()


@pytest.fixture
def photograph(photographs):
    return photographs["china"][50:170, 80:240]


@pytest.mark.parametrize("kernels", ["0", "1"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_any_region_is_a_part_of_the_whole(photograph, orientation, kind, kernels, monkeypatch):
    content = _encoded(photograph, kind, orientation)
    monkeypatch.setenv("NORMFREE_KERNELS", "0")
    whole, rng = decode(content), np.random.default_rng(orientation)
    monkeypatch.setenv("NORMFREE_KERNELS", kernels)
    for _ in range(10):
        image = open_image(content)
        assert image.box == (0, 0, *whole.shape[:2])
        top, left = int(rng.integers(image.height)), int(rng.integers(image.width))
        height, width = rng.integers(1, (image.height - top + 1, image.width - left + 1))
        part = whole[top : top + height, left : left + width]
        ours = image.region(Box(top, left, int(height), int(width)))
        np.testing.assert_array_equal(ours, part)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
@pytest.mark.parametrize("kernels", ["0", "1"])
def test_a_transform_of_a_file_is_that_of_its_pixels(photograph, transform, kernels, monkeypatch):
    assert isinstance(transform, ViewTransform)
    content = _encoded(photograph, orientation=6)
    expected = [transform(decode(content), np.random.default_rng(seed)) for seed in range(8)]
    monkeypatch.setenv("NORMFREE_KERNELS", kernels)
    for seed, whole in enumerate(expected):
        image = open_image(content)
        view = transform.view(image.height, image.width, np.random.default_rng(seed))
        out = np.empty((3, 24, 24), dtype=transform.dtype)
        assert view.shape == (24, 24)
        assert render(image, view, out) is out
        np.testing.assert_array_equal(out, whole.transpose(2, 0, 1))


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_nothing_outside_what_is_needed_is_read(photograph, transform):
    """All other pixels may change."""
    for seed in range(8):
        view = transform.view(120, 160, np.random.default_rng(seed))
        top, left, height, width = view.needed
        masked = np.full_like(photograph, 255)
        part = np.s_[top : top + height, left : left + width]
        masked[part] = photograph[part]
        ours, expected = (render(Pixels(image), view) for image in (masked, photograph))
        np.testing.assert_array_equal(ours, expected)


def test_a_view_is_the_crop_mirrored_and_resized(photograph):
    view = View(Box(10, 20, 60, 90), 30, 40, window=(slice(3, 20), slice(5, 40)), mirror=True)
    crop = photograph[10:70, 20:110][:, ::-1]
    expected = resize_bicubic(crop, 30, 40)[3:20, 5:40]
    np.testing.assert_array_equal(render(Pixels(photograph), view), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("resize", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(30, 41), (200, 300), (7, 100)])
def test_antialiased_filters_are_pytorchs(photograph, resize, size):
    whole = torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None].double()
    expected = F.interpolate(whole, size, mode=resize, antialias=True)[0].numpy()
    ours = render(Pixels(photograph), View(Box(0, 0, 120, 160), *size, resize=resize))
    assert np.abs(ours - expected).max() < 1e-3


@pytest.mark.parametrize(
    ("resize", "pillow"),
    [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)],
)
def test_antialiased_filters_are_pillows(photograph, resize, pillow):
    """Pillow rounds twice, ours once."""
    expected = np.asarray(Image.fromarray(photograph).resize((50, 40), pillow)).astype(int)
    view = View(Box(0, 0, 120, 160), 40, 50, resize=resize)
    ours = render(Pixels(photograph), view, dtype="uint8").transpose(1, 2, 0)
    assert np.abs(ours - expected).max() <= 1


def test_bytes_are_the_nearest_to_the_floats():
    edges = np.zeros((8, 8, 3), dtype=np.uint8)
    edges[4:] = 255
    view = View(Box(0, 0, 8, 8), 16, 16)
    floats, found = (render(Pixels(edges), view, dtype=kind) for kind in ("float32", "uint8"))
    assert floats.min() < 0
    assert floats.max() > 255
    np.testing.assert_array_equal(found, np.rint(floats.clip(0, 255)))


def test_damage_is_named_when_the_part_is_decoded(photograph, tmp_path):
    content = _encoded(photograph)
    scan = content.index(b"\xff\xda") + 14
    damaged = content[: scan + 800] + bytes(40) + content[scan + 1500 : -300]
    (tmp_path / "a.jpg").write_bytes(damaged)
    source = FolderSource(files=(str(tmp_path / "a.jpg"),), labels=np.zeros(1, int), classes=("a",))
    assert isinstance(source, EncodedSource)
    with pytest.raises(BadImageError, match=r"a\.jpg"):
        source.encoded(0).region(Box(0, 0, 4, 4))


def test_a_part_of_a_jpeg_costs_no_whole_image(photograph, monkeypatch):
    from normfree import kernels

    if not kernels.available():
        pytest.skip(str(kernels.status()))
    monkeypatch.setattr(EncodedImage, "_whole", lambda _: pytest.fail("it was decoded whole"))
    content = _encoded(photograph, orientation=8)
    assert open_image(content).region(Box(3, 4, 50, 60)).shape == (50, 60, 3)
    assert decode(content).shape == (160, 120, 3)
