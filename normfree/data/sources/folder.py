"""``folder:DIR``: a directory of images with one subdirectory per class."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from normfree.data.decode import EncodedImage, decode, open_image
from normfree.data.formats import LIMITS, Limits, image_endings
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import Split
from normfree.data.sources.tree import Tree, is_directory, read_tree, visible
from normfree.errors import UserError, printable, unknown_name

_DIRECTORIES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "valid"),
    "test": ("test",),
}


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Images in files, decoded on access.

    Args:
        files: paths of the images.
        labels: class index of each image.
        classes: class names.
        ignored: number of ignored files: those without an image extension, and those outside the
            class directories.
        notes: remarks for the user: that ``val`` is the directory ``test``, or that a linked
            directory was not followed.
        limits: size limits of an image.
    """

    files: tuple[str, ...] = field(repr=False)
    labels: Int[np.ndarray, " n"] = field(repr=False)
    classes: tuple[str, ...]
    ignored: int = 0
    channels: int = 3
    notes: tuple[str, ...] = ()
    limits: Limits = LIMITS

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image ``index`` in RGB.

        Raises:
            BadImageError: the image cannot be read.
        """
        return decode(Path(self.files[index]), limits=self.limits)

    def encoded(self, index: int) -> EncodedImage:
        """Image ``index``, to be decoded in parts."""
        return open_image(Path(self.files[index]), limits=self.limits)

    def name(self, index: int) -> str:
        """The path of image ``index``, escaped for display."""
        return printable(self.files[index])


def folder_splits(argument: str) -> dict[Split, Path]:
    """The splits of a folder and their directories.

    ``val`` is the first of ``val``, ``validation`` and ``valid`` that exists. If none exists,
    ``test`` becomes the validation split, and there is no test split.

    Args:
        argument: ``DIR``.

    Raises:
        UserError: the directory does not exist.
    """
    directory = _expanded(argument)
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}; name yours as folder:DIR")
    found: dict[Split, Path] = {}
    for split, names in _DIRECTORIES.items():
        places = (directory / name for name in names)
        if place := next((place for place in places if place.is_dir()), None):
            found[split] = place
    if "val" not in found and "test" in found:
        found["val"] = found.pop("test")
    return found


@register_source("folder", "DIR", splits=lambda argument: tuple(folder_splits(argument)))
def open_folder(argument: str, split: Split, opening: Opening) -> FolderSource:
    """The images of ``DIR/train/CLASS/``, ``DIR/val/CLASS/`` or ``DIR/test/CLASS/``.

    The classes are the subdirectories of ``train``, sorted by name. A class may contain
    subdirectories and links to directories. Hidden files are ignored. See :func:`folder_splits`
    for other names of ``val``.

    Args:
        argument: ``DIR``.
        split: ``train``, ``val`` or ``test``.
        opening: provides the classes of ``val`` and ``test`` if there is no ``train``.

    Raises:
        UserError: a directory is missing, empty or unreadable, ``val`` has a class that ``train``
            lacks, or a class name is not valid UTF-8 text.
    """
    directory, splits = _expanded(argument), folder_splits(argument)
    known = opening.classes
    if split == "train" or not known or "train" in splits:
        known = _training_classes(directory, splits)
    place = _place(directory, splits, split)
    trees = dict(_class_trees(place, known))
    if not trees:
        raise UserError(f"{place} is empty: put the images of each class into {place}/CLASS/")
    labels = {name: label for label, name in enumerate(known)}
    beside = sum(not is_directory(entry) for entry in visible(place))
    return FolderSource(
        files=tuple(file for tree in trees.values() for file in tree.files),
        labels=np.repeat(
            np.array([labels[name] for name in trees], dtype=np.int64),
            [len(tree.files) for tree in trees.values()],
        ),
        classes=known,
        ignored=beside + sum(tree.others for tree in trees.values()),
        notes=(*_about_val(split, place), *_about_links(place, trees)),
        limits=opening.limits,
    )


def _class_trees(place: Path, known: tuple[str, ...]) -> Iterator[tuple[str, Tree]]:
    endings, names = image_endings(), frozenset(known)
    for name in _class_names(place):
        if name not in names:
            raise UserError(f"{place / name}: {unknown_name('class', name, known)}")
        tree = read_tree(place / name, endings)
        if not tree.files:
            raise UserError(f"{place / name} has no images: add some or remove the directory")
        yield name, tree


def _about_val(split: Split, place: Path) -> Iterator[str]:
    if split == "val" and place.name == "test":
        yield (
            f"there is no {place.with_name('val')}: {place} is used for validation, so the "
            "accuracy on it is not a test accuracy"
        )


def _about_links(place: Path, trees: dict[str, Tree]) -> Iterator[str]:
    skipped = [link for tree in trees.values() for link in tree.skipped]
    if skipped:
        yield (
            f"{len(skipped)} linked directories in {place} were not followed, because they point "
            f"into directories that are read already: {printable(skipped[0])}"
        )


def _expanded(argument: str) -> Path:
    try:
        return Path(argument).expanduser()
    except RuntimeError as error:  # there is no home directory
        raise UserError(f"cannot open folder:{argument}: {error}") from None


def _training_classes(directory: Path, splits: dict[Split, Path]) -> tuple[str, ...]:
    classes = tuple(_class_names(_place(directory, splits, "train")))
    if len(classes) < 2:
        raise UserError(
            f"{directory / 'train'} has {len(classes)} class directories, and a classifier needs "
            "two or more: put the images of each class into train/CLASS/"
        )
    return classes


def _place(directory: Path, splits: dict[Split, Path], split: Split) -> Path:
    if split in splits:
        return splits[split]
    expected = _DIRECTORIES[split][0]
    raise UserError(
        f"{directory} has no directory '{expected}': the images of each class belong in "
        f"{directory / expected}/CLASS/"
    )


def _class_names(directory: Path) -> Iterator[str]:
    """The classes, sorted; their names are saved with the weights, so they must be valid text."""
    for entry in filter(is_directory, visible(directory)):
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in entry.name):
            raise UserError(
                f"the name of the class directory {entry.path} has control characters or bytes "
                "that are not UTF-8: rename it"
            )
        yield entry.name
