from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from normfree.data import decode, image_endings
from normfree.errors import BadImageError


def _encoded(image, kind="png", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm"])
def test_lossless_formats_come_back_as_they_were(pixels, kind):
    np.testing.assert_array_equal(decode(_encoded(Image.fromarray(pixels), kind)), pixels)


def test_a_file_on_disk(pixels, tmp_path):
    (tmp_path / "a.png").write_bytes(_encoded(Image.fromarray(pixels)))
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), pixels)


def test_jpeg_is_close(photographs):
    photograph = photographs["china"][:64, :64]
    error = decode(_encoded(Image.fromarray(photograph), "jpeg", quality=95)) - photograph.astype(
        int
    )
    assert np.abs(error).mean() < 6


def test_the_orientation_of_the_camera_is_applied(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was rotated: the top of the scene is on the right
    ours = decode(_encoded(Image.fromarray(pixels), exif=exif))
    np.testing.assert_array_equal(ours, np.rot90(pixels, k=-1))


def test_gray_is_repeated_and_color_reduced(pixels):
    gray = _encoded(Image.fromarray(pixels[..., 0]))
    np.testing.assert_array_equal(decode(gray), np.repeat(pixels[..., :1], 3, axis=2))
    np.testing.assert_array_equal(decode(gray, channels=1), pixels[..., :1])
    assert decode(_encoded(Image.fromarray(pixels)), channels=1).shape == (5, 7, 1)


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_sixteen_bit_gray_is_scaled_not_clipped(kind):
    deep = _encoded(Image.fromarray(np.array([[0, 256, 32768, 65535]], dtype=np.uint16)), kind)
    assert decode(deep, channels=1).ravel().tolist() == [0, 1, 128, 255]


def test_gray_of_ten_bits_is_scaled():
    deep = b"P5 3 1 1023\n" + np.array([0, 512, 1023], dtype=">u2").tobytes()
    assert decode(deep, channels=1).ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize(("kind", "dtype"), [("floating-point", np.float32), ("32-bit", np.int32)])
def test_gray_without_a_known_white_is_bad(kind, dtype):
    image = Image.fromarray(np.array([[0, 1, 200]], dtype=dtype))
    with pytest.raises(
        BadImageError, match=f"{kind} grayscale has no known white level: store it with 8"
    ):
        decode(_encoded(image, "tiff"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK"])
def test_every_mode_becomes_color(pixels, mode):
    kind = "tiff" if mode == "CMYK" else "png"
    ours = decode(_encoded(Image.fromarray(pixels).convert(mode), kind))
    assert ours.shape == (5, 7, 3)


def test_transparency_of_a_palette_is_dropped():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    file = _encoded(image, transparency=bytes([0, 128]))
    assert decode(file).tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_are_bad(photographs, tmp_path, kind, share):
    whole = _encoded(Image.fromarray(photographs["flower"][:100, :100]), kind)
    file = tmp_path / f"cut.{kind}"
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadImageError) as caught:
        decode(file)
    assert caught.value.name == str(file)
    assert caught.value.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"hello", "not an image"), (b"\xff\xd8\xff\xe0" + b"\0" * 50, "")],
)
def test_what_is_no_image_is_bad(content, reason):
    with pytest.raises(BadImageError, match=f"cannot read image there: .*{reason}"):
        decode(content, name="there")


def test_a_missing_file_is_bad(tmp_path):
    with pytest.raises(BadImageError, match="No such file"):
        decode(tmp_path / "none.jpg")


def test_a_decompression_bomb_is_bad(pixels, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BadImageError, match="more than 20 pixels, the most that"):
        decode(_encoded(Image.fromarray(pixels)))


def test_endings():
    assert {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".webp"} <= image_endings()
    assert not {".txt", ".pdf", ".mp4", ".json"} & image_endings()
