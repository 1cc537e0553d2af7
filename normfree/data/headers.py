"""Checks to run before Pillow opens a file, because opening it already allocates memory."""

from __future__ import annotations

from normfree.data.formats import FORMATS, Limits

_MAX_SCANS = 200  # JPEG scans: each is a pass over the whole image; progressive files have ten


def check_header(content: bytes, limits: Limits) -> str | None:
    r"""The reason why a file must not be opened, or None.

    Args:
        content: contents of the file.
        limits: size limits.

    >>> from normfree.data.formats import LIMITS
    >>> canvas = b"VP8X\n\0\0\0" + bytes(4) + b"\xff\x3f\0" * 2
    >>> check_header(b"RIFF\x1a\0\0\0WEBP" + canvas, LIMITS)
    'it has 16,384 × 16,384 pixels, and at most 33,554,432 of this format are decoded (max_pixels)'
    """
    if len(content) > limits.max_bytes:
        return f"it has {len(content):,} bytes, more than the {limits.max_bytes:,} allowed"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _check_webp(content, limits)
    return None


def check_scans(content: bytes) -> str | None:
    """The reason why a JPEG must not be opened, or None; other files have no scans.

    Args:
        content: contents of the file.
    """
    if content[:2] == b"\xff\xd8":
        scans = content.count(b"\xff\xda")  # cannot occur inside a scan, where 0 follows each 0xff
        if scans > _MAX_SCANS:
            return f"it has {scans:,} scans, and at most {_MAX_SCANS} are decoded"
    return None


def _check_webp(content: bytes, limits: Limits) -> str | None:
    """Check the canvas size: the decoder allocates the canvas twice as soon as it is created."""
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


def too_many(width: int, height: int, allowed: int) -> str | None:
    """The error message if an image has more pixels than allowed, or None."""
    if width * height <= allowed:
        return None
    return (
        f"it has {width:,} × {height:,} pixels, and at most {allowed:,} of this format are decoded "
        "(max_pixels)"
    )
