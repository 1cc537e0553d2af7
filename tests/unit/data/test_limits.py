"""Hostile images are rejected before pixels are allocated, in bounded time and memory."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image, ImageOps

from normfree.data import FORMATS, EvalTransform, Limits, TrainTransform, decode, image_endings
from normfree.data.formats import readable_formats
from normfree.errors import BadImageError, UserError


def _encoded(image, kind="png", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@contextmanager
def _peak():
    """Measure the peak number of bytes that Python and NumPy allocate."""
    tracemalloc.start()
    try:
        yield lambda: peak
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def _png(width, height, bits=1, color=0):
    """A valid header followed by at most 10 kB of pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    pixels = zlib.compress(bytes(min(height * (width * bits // 8 + 2), 10**7)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _webp(kind, body):
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _tiff(width, height, tile):
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (277, 1), *tile]
    entries += [(324, 8), (325, 64)] if tile else [(273, 8), (278, height), (279, 64)]
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + tags + bytes(4)


HUGE = {
    "png 179 Mpixel": _png(13_370, 13_370),
    "png 68 Mpixel": _png(8_200, 8_200),
    "png a million wide": _png(10**6, 1),
    "png a million high": _png(1, 10**6),
    "webp extended": _webp(b"VP8X", bytes(4) + b"\xff\x3f\0" * 2),
    "webp lossless": _webp(b"VP8L", b"\x2f" + struct.pack("<I", 8199 | 8199 << 14)),
    "webp lossy": _webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 8200, 8200)),
    "gif": b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + bytes(3)
    + b",\0\0\0\0" + struct.pack("<HH", 65_000, 65_000) + b"\0\2\0;",
    "bmp": b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 60_000, 60_000, 1, 24, 0) + bytes(20),
    "ppm": b"P6 9000 9000 255\n",
    "ppm decoded in Python": b"P6 1500 1500 1023\n",
    "tiff": _tiff(9_000, 9_000, []),
    "tiff with a tile larger than the image": _tiff(16, 16, [(322, 32_768), (323, 32_768)]),
}  # fmt: skip


@pytest.mark.parametrize("content", HUGE.values(), ids=HUGE)
def test_huge_images_are_refused_from_the_header(content, monkeypatch):
    """Our limits reject it: Pillow's are switched off, and no decoder is started."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(Image, "_getdecoder", lambda *_: pytest.fail("a decoder was started"))
    with (
        _peak() as peak,
        pytest.raises(BadImageError, match=r"pixels, and (at most|neither side may)"),
    ):
        decode(content)
    assert peak() < 2**22


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm"])
def test_the_limit_is_a_setting(kind):
    content = _encoded(
        Image.new("RGB", (40, 30)), kind, **({"progressive": True} if kind == "jpeg" else {})
    )
    share = FORMATS[kind.upper()].share
    assert decode(content, limits=Limits(max_pixels=int(1200 / share))).shape == (30, 40, 3)
    with pytest.raises(BadImageError, match=r"40 × 30 pixels, and at most 1,199 .*max_pixels"):
        decode(content, limits=Limits(max_pixels=int(1199 / share)))
    with pytest.raises(BadImageError, match=r"neither side may exceed 39"):
        decode(content, limits=Limits(max_side=39))
    with pytest.raises(BadImageError, match=r"bytes, more than the 50 allowed"):
        decode(content, limits=Limits(max_bytes=50))


@pytest.mark.parametrize("settings", [{"max_pixels": 0}, {"max_pixels": 2**28}, {"max_side": 0}])
def test_limits_are_checked(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Limits(**settings)


@pytest.mark.parametrize(
    ("allowed", "scale"), [(6000, 1), (5999, 2), (1500, 2), (1499, 4), (104, 8)]
)
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(photographs, allowed, scale):
    photo = Image.fromarray(photographs["china"]).resize((100, 60))
    ours = decode(_encoded(photo, "jpeg", quality=95), limits=Limits(max_pixels=allowed))
    assert ours.shape == (-(-60 // scale), -(-100 // scale), 3)
    expected = np.asarray(photo.reduce(scale)).astype(int)
    assert np.abs(ours - expected).mean() < 5


def test_a_jpeg_too_large_even_at_an_eighth_is_bad():
    with pytest.raises(BadImageError, match=r"at most 90 "):
        decode(_encoded(Image.new("RGB", (100, 60)), "jpeg"), limits=Limits(max_pixels=90))


def test_a_jpeg_of_a_thousand_scans_is_bad():
    content = _encoded(Image.new("RGB", (16, 16)), "jpeg", progressive=True)
    scan = content[content.index(b"\xff\xda") : -2]
    with pytest.raises(BadImageError, match="scans, and at most 200 are decoded"):
        decode(content[:-2] + scan * 200 + content[-2:])


@pytest.mark.parametrize("shape", [(1, 65_535), (65_535, 1), (2, 60_000), (1, 10**6)])
def test_extreme_aspect_ratios_are_transformed_in_little_memory(shape):
    image = np.full((*shape, 3), 200, dtype=np.uint8)
    rng = np.random.default_rng(0)
    with _peak() as peak:
        for transform in (
            EvalTransform(224),
            EvalTransform(224, keep_aspect=True),
            TrainTransform(224),
        ):
            np.testing.assert_allclose(transform(image, rng), 200, atol=1e-3)
    assert peak() < 60 * 2**20


def test_lack_of_memory_is_a_bad_image(monkeypatch):
    def fail(*_):
        raise MemoryError

    content = _encoded(Image.new("RGB", (4, 4)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(BadImageError, match="there: not enough memory"):
        decode(content, name="there")


def test_large_images_are_converted_in_bands(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 7, 4), dtype=np.uint8)
    modes = [Image.fromarray(pixels), Image.fromarray(pixels[..., :3]).quantize(9)]
    modes += [modes[0].convert("CMYK"), Image.fromarray(pixels[..., 0].astype(np.uint16) << 7)]
    kinds = ["png", "png", "tiff", "png"]
    files = [_encoded(image, kind) for image, kind in zip(modes, kinds, strict=True)]
    whole = [decode(file, channels=channels) for file in files for channels in (1, 3)]
    monkeypatch.setattr(sys.modules["normfree.data.pillow"], "_BAND", 25)  # three rows
    bands = [decode(file, channels=channels) for file in files for channels in (1, 3)]
    for ours, expected in zip(bands, whole, strict=True):
        np.testing.assert_array_equal(ours, expected)


def _eps(tmp_path):
    """A program that creates a file if a PostScript interpreter runs it."""
    proof = tmp_path / "executed"
    return proof, (
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
        f"({proof}) (w) file closefile showpage\n%%EOF\n"
    ).encode()


def test_postscript_is_not_executed(tmp_path, monkeypatch):
    proof, program = _eps(tmp_path)
    (tmp_path / "cat.jpg").write_bytes(program)
    Image.init()
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: proof.touch())
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: proof.touch())
    with pytest.raises(BadImageError, match="not an image in a supported format: JPEG, PNG"):
        decode(tmp_path / "cat.jpg")
    assert not proof.exists()


@pytest.mark.parametrize("kind", ["jpeg2000", "ico", "tga", "pcx", "sgi", "eps", "icns", "dds"])
def test_other_formats_are_not_opened(kind):
    with pytest.raises(BadImageError, match="not an image in a supported format"):
        decode(_encoded(Image.new("RGB", (32, 32)), kind))


def test_endings_follow_from_the_list_of_formats():
    assert set(readable_formats()) == set(FORMATS)
    assert image_endings() == {ending for form in FORMATS.values() for ending in form.endings}
    assert image_endings().isdisjoint({".mpg", ".h5", ".eps", ".pdf", ".fits", ".wmf"})


def test_a_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(BadImageError, match="not a regular file"):
        decode(tmp_path / "x.jpg")


def test_devices_and_directories_are_not_read(tmp_path):
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "d.jpg").mkdir()
    for name in ("zero.jpg", "d.jpg"):
        with pytest.raises(BadImageError, match="not a regular file"):
            decode(tmp_path / name)


def test_a_link_to_a_regular_file_is_read(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert decode(tmp_path / "b.png").shape == (2, 3, 3)


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(60 * 10**9)
    with pytest.raises(BadImageError, match="60,000,000,000 bytes, more than the 268,435,456"):
        decode(tmp_path / "x.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_every_orientation_is_pillows(photographs, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _encoded(Image.fromarray(photographs["china"][:20, :30]), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decode(content), np.asarray(expected))


@pytest.mark.parametrize("tag", [0x0112, 0x010F, 0x011A])
def test_damaged_exif_does_not_refuse_good_pixels(photographs, tag):
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "a camera", 0x011A: 72.0})
    content = _encoded(Image.fromarray(photographs["china"][:20, :30]), "jpeg", exif=exif)
    at = content.index(struct.pack(">H", tag), content.index(b"Exif"))
    for place in range(12):  # the tag's id, type, count and value
        for value in range(0, 256, 5):
            damaged = bytearray(content)
            damaged[at + place] = value
            assert set(decode(bytes(damaged)).shape) == {20, 30, 3}


def test_a_readable_orientation_is_applied_beside_a_damaged_tag(photographs):
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "a camera"})
    image = photographs["china"][:20, :30]
    content = bytearray(_encoded(Image.fromarray(image), "png", exif=exif))
    at = content.index(b"\x01\x0f\0\2", content.index(b"eXIf"))
    content[at + 1] = 0  # text where the tag needs an integer, so it cannot be re-encoded
    size = int.from_bytes(content[(start := content.index(b"eXIf")) - 4 : start], "big")
    checksum = zlib.crc32(content[start : start + 4 + size])
    content[start + 4 + size : start + 8 + size] = struct.pack(">I", checksum)
    np.testing.assert_array_equal(decode(bytes(content)), np.rot90(image, k=-1))
