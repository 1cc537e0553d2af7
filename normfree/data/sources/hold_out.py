"""Which training images validate where a source has no validation images of its own."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Int

HELD_OUT = 0.1
"""Fraction of the training images that validate."""


def held_out(
    names: Sequence[str],
    strata: Int[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"] | None = None,
    fraction: float = HELD_OUT,
) -> Bool[np.ndarray, " n"]:
    """Choose the images that validate: the same ones on every machine and for every kind of source.

    In each class, the images are ordered by a hash of their names, and the first ``fraction`` of
    them is chosen: at least one where there are two or more, and never all. With groups, whole
    groups are chosen, so that no group is on both sides; a group belongs to the class of its first
    image, and a class with a single group is not validated.

    Args:
        names: names relative to the source, so that its directory may move.
        strata: class of each image.
        groups: group of each image, such as a patient or a scene.
        fraction: of each class, between 0 and 1.

    >>> chosen = held_out([f"{n}.jpg" for n in range(40)], np.arange(40) % 2)
    >>> np.bincount(np.arange(40) % 2, weights=chosen)
    array([2., 2.])
    >>> groups = np.arange(40) // 4
    >>> groups[held_out([""] * 40, np.zeros(40, int), groups)]
    array([0, 0, 0, 0])
    """
    if groups is None:
        hashes = np.fromiter(map(_hash_name, names), dtype=np.uint64, count=len(names))
        return _first_of_each(hashes, strata, np.ones(len(names), dtype=np.int64), fraction)
    distinct, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    hashes = np.fromiter(map(_hash_number, distinct), dtype=np.uint64, count=len(distinct))
    sizes = np.bincount(inverse, minlength=len(distinct))
    return _first_of_each(hashes, strata[first], sizes, fraction)[inverse]


def _first_of_each(
    hashes: np.ndarray, strata: Int[np.ndarray, " m"], sizes: Int[np.ndarray, " m"], fraction: float
) -> Bool[np.ndarray, " m"]:
    """In each stratum, the first units in the order of their hashes that fill the fraction."""
    chosen = np.zeros(len(hashes), dtype=bool)
    order = np.lexsort((np.arange(len(hashes)), hashes, strata))
    cuts = np.flatnonzero(np.diff(strata[order])) + 1
    for members in np.split(order, cuts) if len(order) else ():
        before = np.cumsum(sizes[members]) - sizes[members]
        wanted = max(1, round(fraction * int(sizes[members].sum())))
        chosen[members[:-1]] = before[:-1] < wanted  # the last one always trains
    return chosen


def _hash_name(name: str) -> int:
    return _hashed(name.encode("utf-8", "surrogateescape"))


def _hash_number(number: int) -> int:
    return _hashed(int(number).to_bytes(8, "little", signed=True))


def _hashed(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def about_hold_out(chosen: Bool[np.ndarray, " n"], where: str, *, grouped: bool = False) -> str:
    """What to say of a split that the user did not make.

    >>> about_hold_out(np.arange(10) < 1, "train")
    'no validation images in train: 1 of its 10 images, chosen by their names, validate'
    """
    by = "whole groups" if grouped else "chosen by their names"
    return (
        f"no validation images in {where}: {chosen.sum()} of its {len(chosen)} images, {by}, "
        "validate"
    )
