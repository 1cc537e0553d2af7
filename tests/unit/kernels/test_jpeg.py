"""Parts of JPEG images are Pillow's pixels, with every instruction set, and damage is noticed."""

from __future__ import annotations

import io
import platform

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from normfree import kernels
from normfree.data import decode
from normfree.data.pillow import without_pillow_warnings
from normfree.errors import BadImageError
from normfree.kernels import jpeg_header, jpeg_region, library
from tests.fuzz.fuzz_images import mutated, originals

COMPILED = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["avx2", "avx512"]
PHOTOGRAPHS = load_sample_images().images
pytestmark = pytest.mark.skipif(not kernels.available(), reason=str(kernels.status()))


@pytest.fixture(params=COMPILED)
def instruction_set(request):
    if not library.use(request.param):
        pytest.skip(f"no kernels for {request.param} here")
    yield
    library.use()


def _jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", **options)
    return file.getvalue()


def _pillow(content):
    with without_pillow_warnings():
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def _boxes(rng, height, width):
    """The whole image, each corner's pixel, and parts of any size."""
    yield 0, 0, height, width
    for top in (0, height - 1):
        yield from ((top, left, 1, 1) for left in (0, width - 1))
    for _ in range(6):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        yield (
            *(top, left),
            *(int(rng.integers(1, height - top + 1)), int(rng.integers(1, width - left + 1))),
        )


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"restart_marker_blocks": 5}])
def test_every_part_is_pillows_to_the_bit(subsampling, gray, options):
    rng = np.random.default_rng(subsampling)
    for number in range(12):
        height, width = rng.integers(6, 110, size=2)
        top, left = rng.integers(300, size=2)
        pixels = PHOTOGRAPHS[number % 2][top : top + height, left : left + width]
        pixels = pixels[..., 0] if gray else pixels
        quality = int(rng.choice([1, 10, 50, 75, 94, 100]))
        content = _jpeg(pixels, quality=quality, subsampling=subsampling, **options)
        expected = _pillow(content)
        assert jpeg_header(content)[:3] == (height, width, 1 if gray else 3)
        for box in _boxes(rng, int(height), int(width)):
            top, left, rows, columns = box
            part = expected[top : top + rows, left : left + columns]
            np.testing.assert_array_equal(jpeg_region(content, *box, channels=3), part)
            if gray:
                ours = jpeg_region(content, *box, channels=1)
                np.testing.assert_array_equal(ours, part[..., :1])


@pytest.mark.usefixtures("instruction_set")
def test_colors_subsampled_vertically_are_pillows():
    """Pillow does not write them: 16 × 8 units are declared to be 8 × 16, of which 8 fit, too."""
    content = bytearray(_jpeg(PHOTOGRAPHS[0][:32, :32], subsampling=1))
    place = content.index(b"\xff\xc0") + 11
    assert content[place] == 0x21
    content[place] = 0x12
    content = bytes(content)
    ours, expected = jpeg_region(content, 0, 0, 32, 32, 3), _pillow(content)
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(jpeg_region(content, 7, 5, 18, 9, 3), expected[7:25, 5:14])


@pytest.mark.usefixtures("instruction_set")
def test_noise_with_every_length_of_code_is_pillows():
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    for options in ({"quality": 100}, {"quality": 100, "optimize": True}, {"quality": 30}):
        content = _jpeg(noise, subsampling=0, **options)
        np.testing.assert_array_equal(jpeg_region(content, 0, 0, 64, 80, 3), _pillow(content))
        ours = jpeg_region(content, 50, 60, 9, 9, 3)
        np.testing.assert_array_equal(ours, _pillow(content)[50:59, 60:69])


def test_a_file_after_another_has_its_own_tables():
    files = [
        _jpeg(PHOTOGRAPHS[i % 2][:40, i : i + 50], optimize=i % 3 > 0, quality=20 + 9 * i)
        for i in range(8)
    ]
    for content in files + files[::-1]:
        np.testing.assert_array_equal(jpeg_region(content, 0, 0, 40, 50, 3), _pillow(content))


def test_what_it_does_not_know_is_left_to_pillow():
    pixels = PHOTOGRAPHS[0][:40, :50]
    cmyk = io.BytesIO()
    Image.fromarray(pixels).convert("CMYK").save(cmyk, "jpeg")
    for content in (
        *(_jpeg(pixels, progressive=True), _jpeg(pixels[:, :4]), cmyk.getvalue()),
        *(b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", originals()["png"], _jpeg(pixels)[:300]),
    ):
        assert jpeg_header(content) is None or jpeg_region(content, 0, 0, 1, 1, 3) is None
    content = _jpeg(pixels)
    assert jpeg_region(content, 0, 0, 4, 4, channels=1) is None  # color to gray
    rgb = _jpeg(pixels, keep_rgb=True, subsampling=0)
    assert jpeg_header(rgb) is None


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, -1, 2, 2), (39, 0, 2, 2), (0, 49, 2, 2)])
def test_a_part_outside_the_image_is_an_error(box):
    with pytest.raises(ValueError, match="out of the image"):
        jpeg_region(_jpeg(PHOTOGRAPHS[0][:40, :50]), *box, channels=3)


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 3}])
def test_a_truncated_file_is_noticed_even_below_the_part(options):
    content = _jpeg(PHOTOGRAPHS[0][:64, :64], **options)
    scan = content.index(b"\xff\xda")
    assert jpeg_region(content, 0, 0, 8, 8, 3) is not None
    for end in range(scan, len(content) - 1, 7):
        assert jpeg_region(content[:end], 0, 0, 8, 8, 3) is None
        with pytest.raises(BadImageError):
            decode(content[:end])


def test_a_missing_restart_is_noticed():
    content = _jpeg(PHOTOGRAPHS[0][:64, :64], restart_marker_blocks=2)
    place = content.index(b"\xff\xd3")
    assert jpeg_region(content[:place] + content[place + 2 :], 0, 0, 8, 8, 3) is None
    assert jpeg_region(content.replace(b"\xff\xd3", b"\xff\xd4"), 0, 0, 8, 8, 3) is None


@pytest.mark.usefixtures("instruction_set")
def test_damaged_files_are_pillows_pixels_or_left_to_it():
    """Where coefficients overflow, blocks may differ: both are noise."""
    names, same, overflown, left = list(originals()), 0, 0, 0
    for index in range(len(names) * 250):
        if names[index % len(names)] not in ("jpeg", "jpeg exif"):
            continue
        content = mutated(11, index)[1]
        header = jpeg_header(content)
        if header is None or header.height * header.width > 10**6:
            left += 1
            continue
        ours = jpeg_region(content, 0, 0, header.height, header.width, 3)
        if ours is None:
            left += 1
            continue
        different = (ours != _pillow(content)).mean()
        assert different < 0.2
        same += different == 0
        overflown += different > 0
    assert left > 20
    assert same > 20 * overflown
