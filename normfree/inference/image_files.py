"""Classify image files, and all that are in directories: none is lost because of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from normfree.data import BadImages, image_endings
from normfree.data.sources.names import Names, NamesBuilder
from normfree.data.sources.tree import read_tree
from normfree.errors import BadImageError, UserError
from normfree.inference.preprocess import read_image

if TYPE_CHECKING:
    from normfree.inference.predictor import Prediction, Predictor


@dataclass(frozen=True)
class ImageFiles:
    """Files to classify.

    Attributes:
        paths: in the order in which they were named; those of a directory sorted by name.
        ignored: number of files in directories that are not named like an image.
        skipped: links to directories that were not followed, because those are read already.
    """

    paths: Names = field(repr=False)
    ignored: int = 0
    skipped: tuple[str, ...] = ()


def find_images(places: Iterable[str | Path]) -> ImageFiles:
    """The image files in some places.

    Args:
        places: files, which are taken whatever their names are, and directories, which are read at
            any depth; hidden entries are ignored.

    Raises:
        UserError: a directory has no images or cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     for name in ("b.png", "a.jpg", "notes.txt"):
    ...         Path(directory, name).touch()
    ...     found = find_images([directory])
    >>> [Path(path).name for path in found.paths], found.ignored
    (['a.jpg', 'b.png'], 1)
    """
    names, ignored, skipped = NamesBuilder(), 0, list[str]()
    for place in map(Path, places):
        if not place.is_dir():
            names.append(str(place))
            continue
        tree = read_tree(place, image_endings(), names, str(place / "_")[:-1])
        if not tree.files:
            raise UserError(
                f"there are no images in {place}, at any depth ({tree.others} other files); "
                f"expected files that end in {', '.join(sorted(image_endings()))}"
            )
        ignored += tree.others
        skipped += tree.skipped
    return ImageFiles(names.built(), ignored, tuple(skipped))


def predict_files(
    predictor: Predictor, paths: Iterable[str | Path], top: int = 5, *, bad: BadImages
) -> Iterator[tuple[str, list[Prediction]]]:
    """Predict the most likely classes of image files, batch by batch.

    Args:
        predictor: the network.
        paths: image files; any number, since one batch at a time is in memory.
        top: number of classes per image.
        bad: where those that cannot be read are counted; the others are classified.

    Yields:
        The path of each readable image, and its classes, most likely first. The probabilities are
        those of the image alone, up to the last bits of a float32.
    """
    waiting = map(str, paths)
    while batch := list(islice(waiting, predictor.batch_size)):
        read: list[str] = []
        answers = predictor.predict(_readable(batch, predictor, read, bad), top)
        yield from zip(read, answers, strict=True)


def _readable(
    paths: Iterable[str], predictor: Predictor, read: list[str], bad: BadImages
) -> Iterator[np.ndarray]:
    """The pixels of those that can be read, whose paths are appended to ``read``."""
    for path in paths:
        try:
            pixels = read_image(path, predictor.card.channels)
        except BadImageError as error:
            bad.add(error)
            continue
        read.append(path)
        yield pixels
