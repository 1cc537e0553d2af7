"""Mutations of files: typical corruption, and some that only an attacker would produce."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

HOSTILE = (
    *(
        None,
        True,
        -1,
        0,
        1,
        2**31,
        2**63,
        10**30,
        1e308,
        -0.5,
        "",
        "x" * 10_000,
        "../../etc/passwd",
    ),
    *("\x1b[2J", "\ud800", [], {}, [[]], [1, 1, 1, 10**7], [None] * 5, {"name": "nfnet_f7"}),
    *("nfnet_f7", "__import__('os').system('true')", 20_000_000, [[[[[[]]]]]], "synthetic:9999999"),
)


def flip(data: bytes, draw: random.Random) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flip_near_an_end(data: bytes, draw: random.Random) -> bytes:
    """Flip a bit near either end, where headers and directories are."""
    changed = bytearray(data)
    place = draw.randrange(min(400, len(data)))
    changed[place if draw.random() < 0.5 else -1 - place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(data: bytes, draw: random.Random) -> bytes:
    """Cut off the end."""
    return data[: draw.randrange(len(data))]


def splice(data: bytes, draw: random.Random) -> bytes:
    """Copy one part of the file over another."""
    length = draw.randint(1, max(1, min(500, len(data) // 2)))
    start, end = (draw.randrange(len(data) - length + 1) for _ in range(2))
    return data[:end] + data[start : start + length] + data[end + length :]


def insert(data: bytes, draw: random.Random) -> bytes:
    """Insert random bytes."""
    place = draw.randrange(len(data))
    return data[:place] + draw.randbytes(draw.randint(1, 64)) + data[place:]


def erase(data: bytes, draw: random.Random) -> bytes:
    """Set a part to zeros."""
    place = draw.randrange(len(data))
    length = min(draw.randint(1, 4096), len(data) - place)
    return data[:place] + bytes(length) + data[place + length :]


def lengthen(data: bytes, draw: random.Random) -> bytes:
    """Overwrite a number, which may be a length."""
    form = draw.choice(["<H", "<I", "<Q"])
    width = struct.calcsize(form)
    value = draw.choice([0, 1, 2**15 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63]) % 2 ** (8 * width)
    place = draw.randrange(max(1, min(len(data) - width, 2000)))
    return data[:place] + struct.pack(form, value) + data[place + width :]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(flip, flip_near_an_end, truncate, splice, insert, erase, lengthen),
)


def any_bytes(data: bytes, draw: random.Random) -> bytes:
    """Apply one of the mutations above."""
    return draw.choice(BYTES)(data, draw)


def swap_json(text: bytes, draw: random.Random) -> bytes:
    """Replace, remove or add values in a JSON text."""
    tree = json.loads(text)
    for _ in range(draw.randint(1, 3)):
        parent, key = draw.choice(_places(tree))
        kind = draw.random()
        if kind < 0.7:
            parent[key] = draw.choice(HOSTILE)
        elif kind < 0.85 and len(parent) > 1:
            del parent[key]
        elif isinstance(parent, dict):
            parent[draw.choice(["", "extra", "__metadata__", "x" * 300])] = draw.choice(HOSTILE)
    return json.dumps(tree).encode()


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            found.append((value, key))
            if isinstance(value[key], dict | list) and value[key]:
                waiting.append(value[key])
    return found or [({0: 0}, 0)]


def in_safetensors(data: bytes, draw: random.Random) -> bytes:
    """Mutate the header, or only the card in it, and correct the header length."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    if draw.random() < 0.6 and b'"normfree"' in header:
        tree = json.loads(header)
        card = swap_json(tree["__metadata__"]["normfree"].encode(), draw)
        tree["__metadata__"]["normfree"] = card.decode()
        header = json.dumps(tree).encode()
    else:
        header = swap_json(header, draw)
    return len(header).to_bytes(8, "little") + header + rest


def in_zip(data: bytes, draw: random.Random) -> bytes:
    """Mutate a member and recompute the checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    telling = [n for n in content if n.endswith((".pkl", ".json", "normfree"))]
    name = draw.choice(telling or list(content))
    if name.endswith((".json", "normfree")) and draw.random() < 0.8:
        content[name] = swap_json(content[name], draw)
    elif draw.random() < 0.1:
        del content[name]
    else:
        content[name] = any_bytes(content[name], draw)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member, value in content.items():
            archive.writestr(zipfile.ZipInfo(member), value)
    return file.getvalue()
