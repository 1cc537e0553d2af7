"""``folder:DIR``: a directory of images with one subdirectory per class."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from normfree.data.decode import EncodedImage, decode, open_image
from normfree.data.files import read_regular
from normfree.data.formats import LIMITS, Limits, image_endings
from normfree.data.sources.hold_out import about_hold_out, held_out
from normfree.data.sources.names import Names, NamesBuilder
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import Labels, Split
from normfree.data.sources.tree import Tree, is_directory, read_tree, visible
from normfree.errors import BadImageError, UserError, printable, unknown_name

_DIRECTORIES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "valid"),
    "test": ("test",),
}
_LAYOUTS = (
    "expected DIR/train/CLASS/ and DIR/val/CLASS/ with images in them, or DIR/CLASS/ without splits"
)
#: What people call splits, in lower case; no layout may have classes of only such names.
_LIKE_SPLITS = frozenset(
    {"train", "training", "trainset", "val", "valid", "validation", "valset", "dev", "eval"}
    | {"evaluation", "test", "testing", "testset"}
)


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Images in files, decoded on access.

    Args:
        files: paths of the images.
        labels: class index of each image, or its classes as a multi-hot row.
        classes: class names.
        ignored: number of ignored files: those without an image extension, and those outside the
            class directories.
        notes: remarks for the user: which images validate, or that a linked directory was not
            followed.
        limits: size limits of an image.
    """

    files: Sequence[str] = field(repr=False)
    labels: Labels = field(repr=False)
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

    def content(self, index: int) -> bytes:
        """The bytes of file ``index``.

        Raises:
            BadImageError: the file cannot be read.
        """
        try:
            return read_regular(Path(self.files[index]), self.limits.max_bytes)
        except OSError as error:
            raise BadImageError(self.files[index], error.strerror or str(error)) from error

    def name(self, index: int) -> str:
        """The path of image ``index``, escaped for display."""
        return printable(self.files[index])


class _Layout(NamedTuple):
    """Where the images of each split are.

    Attributes:
        root: the directory.
        places: split → its directory; ``train`` is the root itself if there are no splits.
        holds_out: whether a part of ``train`` validates.
    """

    root: Path
    places: dict[Split, Path]
    holds_out: bool


def folder_splits(argument: str) -> dict[Split, Path]:
    """The splits of a folder and their directories.

    ``val`` is the first of ``val``, ``validation`` and ``valid`` that exists. If none exists,
    ``test`` becomes the validation split, and there is no test split. If there is none of these,
    a part of the training images validates; and if there is no ``train`` either, the directory
    itself has the training images.

    Args:
        argument: ``DIR``.

    Raises:
        UserError: the directory does not exist.
    """
    return _layout(argument).places


@register_source("folder", "DIR", splits=lambda argument: tuple(folder_splits(argument)))
def open_folder(argument: str, split: Split, opening: Opening) -> FolderSource:
    """The images of ``DIR/train/CLASS/``, ``DIR/val/CLASS/`` or ``DIR/test/CLASS/``.

    The classes are the subdirectories of ``train``, sorted by name. Images may be at any depth
    below their class, and behind links to directories. Hidden files are ignored. Without ``val``, a
    tenth of each class validates, see :func:`~normfree.data.sources.hold_out.held_out`. See
    :func:`folder_splits` for other layouts.

    Args:
        argument: ``DIR``.
        split: ``train``, ``val`` or ``test``.
        opening: provides the classes of ``val`` and ``test`` if there is no ``train``.

    Raises:
        UserError: a directory is missing, empty or unreadable, ``val`` has a class that ``train``
            lacks, or a class name is not valid UTF-8 text.
    """
    layout, known = _layout(argument), opening.classes
    if split == "train" or not known or "train" in layout.places:
        known = _training_classes(layout)
    place = _place(layout, split)
    builder = NamesBuilder()
    trees = dict(_class_trees(place, known, builder))
    if not trees:
        raise _wrong(f"{place} is empty")
    files = builder.built(prefix=f"{place}/")
    label_of = {name: label for label, name in enumerate(known)}
    labels = np.repeat(
        np.array([label_of[name] for name in trees], dtype=np.int64),
        [tree.files for tree in trees.values()],
    )
    notes = (*_about_val(split, place), *_about_links(place, trees))
    if layout.holds_out and split != "test":
        files, labels, said = _part(files, labels, split, place, opening.val_fraction)
        notes = (*said, *notes)
    beside = sum(not is_directory(entry) for entry in visible(place))
    return FolderSource(
        files=files,
        labels=labels,
        classes=known,
        ignored=beside + sum(tree.others for tree in trees.values()),
        notes=notes,
        limits=opening.limits,
    )


def _layout(argument: str) -> _Layout:
    directory = _expanded(argument)
    if not directory.is_dir():
        raise _wrong(f"there is no directory {directory}; name yours as folder:DIR")
    found: dict[Split, Path] = {}
    for split, names in _DIRECTORIES.items():
        places = (directory / name for name in names)
        if place := next((place for place in places if place.is_dir()), None):
            found[split] = place
    if "val" not in found and "test" in found:
        found["val"] = found.pop("test")
    if not found:
        found["train"] = directory
    holds_out = "val" not in found
    if holds_out:
        found["val"] = found["train"]
    return _Layout(directory, found, holds_out)


def _class_trees(
    place: Path, known: tuple[str, ...], builder: NamesBuilder
) -> Iterator[tuple[str, Tree]]:
    endings, names = image_endings(), frozenset(known)
    for name in _class_names(place):
        if name not in names:
            raise UserError(f"{place / name}: {unknown_name('class', name, known)}")
        tree = read_tree(place / name, endings, builder, f"{name}/")
        if not tree.files:
            raise _wrong(f"{place / name} has no images; add some or remove the directory")
        yield name, tree


def _part(
    files: Names, labels: Int[np.ndarray, " n"], split: Split, place: Path, fraction: float
) -> tuple[Names, Int[np.ndarray, " m"], list[str]]:
    """The images of a directory that train, or those that validate."""
    chosen = held_out(Names(files.blob, files.offsets), labels, fraction=fraction)
    if split == "val" and not chosen.any():
        raise UserError(
            f"every class of {place} has a single image, so none can validate: add more, or put "
            "the images that validate into val/CLASS/"
        )
    kept = np.flatnonzero(chosen == (split == "val"))
    notes = [about_hold_out(chosen, str(place))] if split == "val" else []
    return files.take(kept), labels[kept], notes


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


def _training_classes(layout: _Layout) -> tuple[str, ...]:
    place = _place(layout, "train")
    classes = tuple(_class_names(place))
    if len(classes) < 2:
        found = f"{place} has {_listed(classes, 'class directory', 'class directories')}"
        raise _wrong(f"{found}, and a classifier needs two or more")
    if _like_splits(classes):
        raise _wrong(f"the class directories of {place} have the names of splits: {_some(classes)}")
    inside = tuple(x.name for x in visible(place / classes[0]) if is_directory(x))
    if _like_splits(inside):
        raise _wrong(
            f"{place / classes[0]} has directories with the names of splits ({_some(inside)}), but "
            "a split goes above its classes"
        )
    return classes


def _like_splits(names: tuple[str, ...]) -> bool:
    return len(names) > 1 and _LIKE_SPLITS.issuperset(name.lower() for name in names)


def _listed(names: tuple[str, ...], one: str, several: str) -> str:
    """How many there are, and some of them."""
    named = f" ({_some(names)})" if names else ""
    return f"{len(names)} {one if len(names) == 1 else several}{named}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _wrong(problem: str) -> UserError:
    """The error for a directory that has another layout."""
    return UserError(f"{problem}: {_LAYOUTS}")


def _place(layout: _Layout, split: Split) -> Path:
    if split in layout.places:
        return layout.places[split]
    raise _wrong(f"{layout.root} has no directory '{_DIRECTORIES[split][0]}'")


def _class_names(directory: Path) -> Iterator[str]:
    """The classes, sorted; their names are saved with the weights, so they must be valid text."""
    for entry in filter(is_directory, visible(directory)):
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in entry.name):
            raise UserError(
                f"the name of the class directory {entry.path} has control characters or bytes "
                "that are not UTF-8: rename it"
            )
        yield entry.name
