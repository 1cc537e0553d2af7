"""The cache of a run: decoded images for the epochs after the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from normfree.cache_home import cache_home
from normfree.data import ArraySource, Source
from normfree.data.cache import CachedSource, PixelCache, source_key
from normfree.data.pack import PackSource
from normfree.errors import BadImageError, UserError
from normfree.train.components import Data
from normfree.train.sources import Sources

_SAMPLE = 8  # images whose mean size is taken for that of all
_OTHERS = 0.25  # of the capacity, for the validation and the test images


def cached(sources: Sources, data: Data) -> tuple[Sources, list[str]]:
    """The sources of a run with a cache each, and what to say of them.

    Images that are in memory or decoded already need none.

    Raises:
        UserError: the file of a cache cannot be made.
    """
    notes: list[str] = []
    if data.cache == "none":
        return sources, notes
    found: list[Source | None] = []
    for source in sources:
        share = 1.0 if not found else _OTHERS
        found.append(None if source is None else _cached(source, data, share, notes))
    train, val, test = found
    assert train is not None
    assert val is not None
    return Sources(train, val, test), notes


def cache_directory() -> Path:
    """``images`` in :func:`~normfree.cache_home.cache_home`."""
    return cache_home() / "images"


def _cached(source: Source, data: Data, share: float, notes: list[str]) -> Source:
    raw = isinstance(source, PackSource) and source.header.encoding == "raw"
    if isinstance(source, ArraySource) or raw or not len(source):
        return source
    capacity = int(data.cache_gb * 1e9 * share)
    if data.cache == "ram":
        cache, where = PixelCache.in_memory(len(source), capacity), "memory"
    else:
        directory = cache_directory()
        try:
            cache = PixelCache.on_disk(directory, source_key(source), len(source), capacity)
        except OSError as error:
            raise UserError(
                f"cannot make a cache in {directory}: {error.strerror or error}; set "
                "NORMFREE_CACHE to another directory, or use --cache ram"
            ) from error
        where = str(directory)
    room = min(1.0, capacity / max(1, len(source) * _mean_size(source)))
    notes.append(
        f"cache: up to {capacity / 1e9:.3g} GB in {where} for {len(source)} decoded images, room "
        f"for about {100 * room:.0f} % of them; change it by --cache-gb"
    )
    return CachedSource(source, cache)


def _mean_size(source: Source) -> float:
    """Bytes of a decoded image, from a few of them."""
    sizes = []
    for index in np.linspace(0, len(source) - 1, min(_SAMPLE, len(source)), dtype=np.int64):
        try:
            sizes.append(source.image(int(index)).nbytes)
        except BadImageError:
            continue
    return sum(sizes) / max(1, len(sizes))
