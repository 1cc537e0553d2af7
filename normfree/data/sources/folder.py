"""``folder:DIR``: a directory of photographs, one sub-directory a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from normfree.data.decode import decode, image_endings
from normfree.data.sources.source import Split
from normfree.errors import UserError, unknown_name

_DIRECTORIES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "valid", "test"),
}


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Photographs in files, decoded when they are asked for.

    Args:
        files: the photographs.
        labels: the label of every photograph.
        classes: names of the classes.
        ignored: how many files were passed over because their ending is not that of a image or
            they lie beside the classes.
    """

    files: tuple[str, ...] = field(repr=False)
    labels: Int[np.ndarray, " n"] = field(repr=False)
    classes: tuple[str, ...]
    ignored: int = 0
    channels: int = 3

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Photograph ``index`` in colour.

        Raises:
            BadImageError: if it cannot be read.
        """
        return decode(Path(self.files[index]))

    def name(self, index: int) -> str:
        """The file of photograph ``index``."""
        return self.files[index]


def open_folder(
    directory: str | Path, split: Split, classes: Sequence[str] | None = None
) -> FolderSource:
    """The photographs of ``DIR/train/CLASS/`` or ``DIR/val/CLASS/``.

    The classes are the directories of ``train``, sorted by name; a class may have directories of
    its own. Hidden files are passed over. Where there is no ``val``, then ``validation``,
    ``valid`` or ``test`` is taken, the first that exists.

    Args:
        directory: ``DIR``.
        split: ``train`` or ``val``.
        classes: what to take for ``val`` where there is no ``train``.

    Raises:
        UserError: if a directory is missing or empty, or ``val`` has a class that ``train`` lacks.
    """
    directory = Path(directory).expanduser()
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}; name yours as folder:DIR")
    known = tuple(classes or ())
    if split == "train" or not known or (directory / "train").is_dir():
        known = _training_classes(directory)
    place = _split_directory(directory, split)
    files: list[str] = []
    labels: list[int] = []
    ignored = sum(not entry.name.startswith(".") for entry in place.iterdir() if entry.is_file())
    for name in _sub_directories(place):
        if name not in known:
            raise UserError(f"{place / name}: {unknown_name('class', name, known)}")
        found, others = _pictures(place / name)
        if not found:
            raise UserError(f"{place / name} holds no images: add some or remove the directory")
        files += found
        labels += [known.index(name)] * len(found)
        ignored += others
    if not files:
        raise UserError(f"{place} is empty: put the images of each class into {place}/CLASS/")
    return FolderSource(tuple(files), np.array(labels, dtype=np.int64), known, ignored)


def _training_classes(directory: Path) -> tuple[str, ...]:
    classes = _sub_directories(_split_directory(directory, "train"))
    if len(classes) < 2:
        raise UserError(
            f"{directory / 'train'} has {len(classes)} class directories, and a classifier needs "
            "two or more: put the images of each class into train/CLASS/"
        )
    return classes


def _split_directory(directory: Path, split: Split) -> Path:
    for name in _DIRECTORIES[split]:
        if (directory / name).is_dir():
            return directory / name
    expected = _DIRECTORIES[split][0]
    raise UserError(
        f"{directory} has no directory '{expected}': the images of each class belong in "
        f"{directory / expected}/CLASS/"
    )


def _sub_directories(directory: Path) -> tuple[str, ...]:
    entries = (entry for entry in directory.iterdir() if not entry.name.startswith("."))
    return tuple(sorted(entry.name for entry in entries if entry.is_dir()))


def _pictures(directory: Path) -> tuple[list[str], int]:
    """The images below a directory, sorted, and the number of visible files that are none."""
    endings = image_endings()
    images: list[str] = []
    others = 0
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            if Path(name).suffix.lower() in endings:
                images.append(str(Path(place, name)))
            else:
                others += 1
    return images, others
