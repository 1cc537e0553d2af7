"""Add a data source: ``npz:FILE``, images and labels in a NumPy archive.

    python examples/add_a_data_source.py

A source is one file: a class with the members of ``normfree.data.Source`` and a function that opens
it, registered under a name. In the package, the file goes to ``normfree/data/sources/`` and one
import in ``normfree/data/sources/__init__.py`` runs it; in a project of your own, import the file
before you open the source.

What the loader relies on:

- ``image(index)`` is a function of the index alone: every epoch, worker process and resumed run
  asks for the same index and expects the same pixels. Augmentation comes later.
- The source is picklable and small, because it is sent to each worker process: keep paths and
  labels, not open files or pixels (unless they are few: then return an ``ArraySource``).
- An image that cannot be read raises ``BadImageError``, so that ``--on-bad-image skip`` can work;
  what is wrong with the whole source raises ``UserError`` when it is opened.

A source that streams (tar shards, a remote store) fits the same way, by an index: when it is
opened, read or build a table of (shard, offset, length, label), one row an image. ``image(index)``
then reads ``length`` bytes at ``offset`` and passes them to ``decode``. The order of an epoch is
planned as indices before anything is read, so shuffling, resuming and splitting among machines need
no code here; to read shards sequentially, sort the rows of a shard next to each other and let a
worker keep the shard of its last image open.
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from normfree.data import EvalTransform, Opening, Split, open_source, register_source
from normfree.errors import BadImageError, UserError


@dataclass(frozen=True, eq=False)
class NpzSource:
    """Images of different sizes, each an array of its own in the archive, read on access.

    Args:
        file: holds arrays ``train/0``, ``train/1``, …, ``train/labels`` and the same for ``val``,
            and ``classes``.
        split: ``train`` or ``val``.
        labels: the label of every image, int64.
        classes: names of the classes.
    """

    file: Path
    split: Split
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        """Image ``index``, uint8 (h, w, 3)."""
        try:
            with np.load(self.file, allow_pickle=False) as archive:
                image = archive[f"{self.split}/{index}"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BadImageError(self.name(index), str(error)) from error
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise BadImageError(self.name(index), f"{image.dtype} {image.shape} is not (h, w, 3)")
        return image

    def name(self, index: int) -> str:
        """What messages call image ``index``."""
        return f"{self.file}[{self.split}/{index}]"


@register_source("npz", "FILE")
def open_npz(argument: str, split: Split, opening: Opening) -> NpzSource:
    """Open ``npz:FILE``; ``allow_pickle=False``, because a pickle executes what it likes."""
    file = Path(argument).expanduser()
    try:
        with np.load(file, allow_pickle=False) as archive:
            labels = archive[f"{split}/labels"].astype(np.int64)
            classes = tuple(map(str, archive["classes"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot open npz:{file}: {error}") from error
    if not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(f"the labels of {file} are not indices into its {len(classes)} classes")
    return NpzSource(file, split, labels, classes)


def write_made_up_images(file: Path) -> None:
    """Two classes, dark and bright, of images of different sizes."""
    rng = np.random.default_rng(0)
    arrays = {"classes": np.array(["dark", "bright"])}
    for split, count in (("train", 32), ("val", 8)):
        labels = np.arange(count) % 2
        arrays[f"{split}/labels"] = labels
        for index, label in enumerate(labels):
            shape = (*rng.integers(20, 40, size=2), 3)
            arrays[f"{split}/{index}"] = rng.integers(
                128 * label, 128 * (label + 1), shape, np.uint8
            )
    np.savez(file, **arrays)


def main() -> None:
    """Make an archive up, open it by its description and look at it through a transform."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "made_up.npz"
        write_made_up_images(file)
        train, val = (open_source(f"npz:{file}", split) for split in ("train", "val"))
        transform = EvalTransform(24)
        for index in range(4):
            image = train.image(index)
            label = train.classes[train.labels[index]]
            mean = transform(image).mean()
            print(f"{image.shape} → (24, 24, 3), {label}: mean gray level {mean:.0f}")
        print(f"{len(train)} training and {len(val)} validation images")


if __name__ == "__main__":
    main()
