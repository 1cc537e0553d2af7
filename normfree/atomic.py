"""Files that appear whole or not at all, whenever the machine stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it takes its place under ``path`` when it is complete and on the disk.

    If the block raises, what was at ``path`` before stays as it was.

    Args:
        path: where the file will be.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, all of it or nothing."""
    with atomic_file(path) as file:
        file.write(content)
