"""The images of a run: what is learned from, what chooses weights, what is looked at once."""

from __future__ import annotations

from typing import NamedTuple

from normfree.data import Source, has_split, open_source


class Sources(NamedTuple):
    """The images of a run, split by split.

    Attributes:
        train: to learn from.
        val: to choose weights by.
        test: to look at once, at the end; None where there are none.
    """

    train: Source
    val: Source
    test: Source | None


def open_sources(spec: str) -> Sources:
    """The splits of a data source.

    Args:
        spec: see :func:`normfree.data.open_source`.

    Raises:
        UserError: there is no such source, or it has no images to train on or to choose by.
    """
    test = open_source(spec, "test") if has_split(spec, "test") else None
    return Sources(open_source(spec, "train"), open_source(spec, "val"), test)
