"""Pillow's warnings and log never reach stderr, nor do its words a refusal.

Each script runs in a process of its own, because pytest replaces the filters of warnings.
"""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import io, struct, warnings
import numpy as np
from PIL import Image
from normfree.data import decode
from normfree.errors import BadImageError
from normfree.inference.preprocess import read_image

def encoded(size, kind="jpeg", **options):
    file = io.BytesIO()
    Image.new("RGB", size).save(file, kind, **options)
    return file.getvalue()
"""


def printed(script: str) -> str:
    """The standard output of a script that prints nothing to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_large_image_is_decoded_without_a_warning() -> None:
    """Pillow warns between its limit and twice it; the limit is lowered to be quick."""
    out = printed("Image.MAX_IMAGE_PIXELS = 100\nprint(decode(encoded((12, 12))).shape)")
    assert out == "(12, 12, 3)\n"


def test_what_pillow_does_not_open_is_refused_in_our_words() -> None:
    out = printed(
        """
Image.MAX_IMAGE_PIXELS = 100
for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm"):
    content = encoded((15, 14), kind)
    try:
        decode(content)
    except BadImageError as error:
        print(error.reason)
"""
    )
    assert out == "it has more than 200 pixels, the most that Pillow opens; store it smaller\n" * 7


def test_damaged_exif_is_decoded_without_a_warning() -> None:
    printed(
        """
exif = Image.Exif()
exif.update({0x0112: 6, 0x010F: "a camera", 0x011A: 72.0})
content = encoded((20, 30), exif=exif)
at = content.index(struct.pack(">H", 0x010F), content.index(b"Exif"))
for place in range(12):
    for value in range(0, 256, 15):
        damaged = bytearray(content)
        damaged[at + place] = value
        decode(bytes(damaged))
        with warnings.catch_warnings(action="ignore"):  # of the caller's own opening
            image = Image.open(io.BytesIO(damaged))
        read_image(image, 3)
"""
    )


def test_a_damaged_tiff_is_refused_without_a_line_of_the_log() -> None:
    out = printed(
        """
tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 99), (279, 64)]
content = b"II*\\0\\x08\\0\\0\\0" + struct.pack("<H", len(tags))
content += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
try:
    decode(content)
except BadImageError:
    print("refused")
"""
    )
    assert out == "refused\n"
