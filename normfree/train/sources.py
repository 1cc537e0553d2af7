"""The images of a run: what is learned from, what chooses weights, what is looked at once."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from normfree.data import Source, has_split, open_source
from normfree.data.sources.hold_out import HELD_OUT
from normfree.data.sources.registry import OnBadImage


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


def open_sources(
    spec: str, on_bad_image: OnBadImage = "error", val_fraction: float = HELD_OUT
) -> Sources:
    """The splits of a data source.

    Args:
        spec: see :func:`normfree.data.open_source`.
        on_bad_image: see :func:`normfree.data.open_source`.
        val_fraction: see :func:`normfree.data.open_source`.

    Raises:
        UserError: there is no such source, or it has no images to train on or to choose by.
    """
    opened = partial(open_source, spec, on_bad_image=on_bad_image, val_fraction=val_fraction)
    test = opened("test") if has_split(spec, "test") else None
    return Sources(opened("train"), opened("val"), test)
