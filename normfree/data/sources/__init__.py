"""Data sources, one per file, each opened by a short description such as ``folder:DIR``.

To add a source, write a file that calls :func:`register_source` and import it here.
"""

from __future__ import annotations

from normfree.data.sources import (  # noqa: F401 (importing registers them)
    digits,
    hugging_face,
    idx,
    pack,
    parquet,
    synthetic,
    text_table,
    wds,
)
from normfree.data.sources.folder import FolderSource
from normfree.data.sources.registry import (
    Opening,
    has_split,
    open_source,
    register_source,
    source_names,
)
from normfree.data.sources.source import ArraySource, EncodedSource, Source, Split

__all__ = [
    "ArraySource",
    "EncodedSource",
    "FolderSource",
    "Opening",
    "Source",
    "Split",
    "has_split",
    "open_source",
    "register_source",
    "source_names",
]
