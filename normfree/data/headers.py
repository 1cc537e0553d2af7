"""What must be known of a file before Pillow opens it, because opening already allocates."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from normfree.data.formats import FORMATS, Limits

_MAX_SCANS = 200  # of a JPEG: each costs a pass over the whole image; a progressive one has ten
_MAX_REPEATED = 2**26  # bytes that the tags of a file may take beyond what the file has
_MAX_ENTRIES = 2**16
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # "+" is BigTIFF
_BYTES_OF_KIND = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_TILE_WIDTH, _TILE_LENGTH, _ORIENTATION = 322, 323, 274


def check_header(content: bytes, limits: Limits) -> str | None:
    r"""Why a file must not be opened; None if it may be.

    Args:
        content: the file.
        limits: how large an image may be.

    >>> from normfree.data.formats import LIMITS
    >>> canvas = b"VP8X\n\0\0\0" + bytes(4) + b"\xff\x3f\0" * 2
    >>> check_header(b"RIFF\x1a\0\0\0WEBP" + canvas, LIMITS)
    'it has 16,384 × 16,384 pixels, and at most 33,554,432 of this format are decoded (max_pixels)'
    """
    if len(content) > limits.max_bytes:
        return f"it has {len(content):,} bytes, more than the {limits.max_bytes:,} allowed"
    if content[:2] == b"\xff\xd8":
        return _check_jpeg(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _check_webp(content, limits)
    if content[:4] in _TIFF:
        return _check_tiff(content, limits)
    return None


def orientation(exif: bytes) -> int | None:
    r"""The orientation that EXIF stores, 1 (upright) to 8; None where it stores none.

    >>> orientation(b"Exif\0\0II*\0\x08\0\0\0" + b"\1\0" + b"\x12\1\3\0\1\0\0\0\6\0\0\0")
    6
    """
    tiff = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    found = None
    for entry in _entries(tiff):
        if entry.tag == _ORIENTATION:
            found = entry.number
    return found


class _Entry(NamedTuple):
    """A tag of a TIFF directory: its size in bytes, and its value if that is one integer."""

    tag: int
    size: int
    number: int


def _entries(tiff: bytes) -> Iterator[_Entry]:
    """The tags of the first directory, as far as they lie within the file."""
    order = ">" if tiff[:2] == b"MM" else "<"
    big = tiff[2:4] in (b"+\0", b"\0+")
    # BigTIFF counts and points in 64 bits.
    where, number, entry, width = (8, "Q", "HHQ", 20) if big else (4, "H", "HHI", 12)
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, where)
        (count,) = struct.unpack_from(order + number, tiff, start)
        first = start + struct.calcsize("<" + number)
        for place in range(first, first + width * min(count, _MAX_ENTRIES), width):
            tag, kind, values = struct.unpack_from(order + entry, tiff, place)
            form = _INTEGERS.get(kind, "") if values == 1 else ""
            value = struct.unpack_from(order + form, tiff, place + struct.calcsize("<" + entry))
            yield _Entry(tag, values * _BYTES_OF_KIND.get(kind, 0), sum(value))
    except struct.error:  # it ends early
        return


def _check_tags(tiff: bytes) -> str | None:
    """Pillow copies the value of every tag, and a thousand tags may point to the same value."""
    total = sum(entry.size for entry in _entries(tiff) if entry.size <= len(tiff))
    if total > len(tiff) + _MAX_REPEATED:
        return f"its tags repeat {total:,} bytes of a file of {len(tiff):,}"
    return None


def _check_jpeg(content: bytes) -> str | None:
    scans = content.count(b"\xff\xda")  # never within a scan: there a zero follows every 0xff
    if scans > _MAX_SCANS:
        return f"it has {scans:,} scans, and at most {_MAX_SCANS} are decoded"
    blocks = re.finditer(rb"\xff\xe1(..)Exif\0\0", content, re.DOTALL)
    exif = b"".join(
        content[found.end() : found.start() + 2 + int.from_bytes(found[1], "big")]
        for found in blocks
    )
    return _check_tags(exif)


def _check_webp(content: bytes, limits: Limits) -> str | None:
    """The decoder allocates its canvas, twice, when it is made."""
    kind, start = content[12:16], content[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(start[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(start[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    else:
        return "its header is damaged"
    return too_many(width, height, int(limits.max_pixels * FORMATS["WEBP"].share))


def _check_tiff(content: bytes, limits: Limits) -> str | None:
    """A tile may be declared larger than the image."""
    sides = {entry.tag: entry.number for entry in _entries(content)}
    tile = sides.get(_TILE_WIDTH, 0), sides.get(_TILE_LENGTH, 0)
    return too_many(*tile, limits.max_pixels) or _check_tags(content)


def too_many(width: int, height: int, allowed: int) -> str | None:
    """What to say where an image has more pixels than allowed."""
    if width * height <= allowed:
        return None
    return (
        f"it has {width:,} × {height:,} pixels, and at most {allowed:,} of this format are decoded "
        "(max_pixels)"
    )
