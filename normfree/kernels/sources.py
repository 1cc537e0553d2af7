"""A digest of the C sources; a library built from other sources is not used.

``setup.py`` runs this file on its own, so it only imports the standard library.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "csrc"


def sources() -> list[Path]:
    """The C source files; an installed wheel has none."""
    return sorted(path for path in FOLDER.glob("*") if path.suffix in (".c", ".h"))


def digest() -> str | None:
    """A hash of the file names and contents; ``None`` if there are no sources.

    >>> digest() == digest()
    True
    """
    found = hashlib.sha256()
    for path in sources():
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16] if sources() else None
