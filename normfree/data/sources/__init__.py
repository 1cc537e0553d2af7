"""Where images come from: one file a source, opened by a short description.

A source is added by a file that calls :func:`register_source` and a line here that imports it.
"""

from __future__ import annotations

from normfree.data.sources import digits, idx, synthetic  # noqa: F401 (they register themselves)
from normfree.data.sources.folder import FolderSource
from normfree.data.sources.registry import (
    Opening,
    has_split,
    open_source,
    register_source,
    source_names,
)
from normfree.data.sources.source import ArraySource, Source, Split

__all__ = [
    "ArraySource",
    "FolderSource",
    "Opening",
    "Source",
    "Split",
    "has_split",
    "open_source",
    "register_source",
    "source_names",
]
