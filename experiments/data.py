"""The images of the experiments: parts of Fashion-MNIST, and folders of photographs.

    python -m experiments.data

Fashion-MNIST is read from Debian's package ``dataset-fashion-mnist``, or from the directory that
the variable ``FASHION_MNIST`` names. ``PHOTOGRAPHS`` names a directory with a directory of JPEG
files for each class. Their parts are written to ``experiments/data/``.
"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from normfree.data import ArraySource, open_source
from normfree.data.sources.idx import read_idx

HERE = Path(__file__).parent
DATA = HERE / "data"
SPLITS = ("train", "t10k")
PHOTOGRAPHS = Path(os.environ.get("PHOTOGRAPHS", "photographs"))
FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


def write_idx(path: Path, values: np.ndarray) -> None:
    """Bytes as an IDX file, packed."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    with gzip.open(path, "wb") as file:
        file.write(header + values.astype(np.uint8).tobytes())


def fashion_part(count: int, test: int) -> Path:
    """The first images of Fashion-MNIST, whose order is random."""
    out = DATA / f"fashion-{count}"
    out.mkdir(parents=True, exist_ok=True)
    for split, kept in (("train", count), ("t10k", test)):
        for kind, rank in (("images-idx3", 3), ("labels-idx1", 1)):
            name = f"{split}-{kind}-ubyte"
            write_idx(out / f"{name}.gz", read_idx(FASHION / f"{name}.gz", rank)[:kept])
    return out


def fashion_select(held_out: int = 6000) -> Path:
    """The training images in two: the last ones, which validate, stand where ``t10k`` would."""

    def parts() -> dict[str, np.ndarray]:
        kinds = (("images-idx3", 3), ("labels-idx1", 1))
        return {k: read_idx(FASHION / f"train-{k}-ubyte.gz", rank) for k, rank in kinds}

    return _select("fashion", parts, held_out)


def digits_select(held_out: int = 360) -> Path:
    """The training images of scikit-learn's digits in two, as IDX files."""

    def parts() -> dict[str, np.ndarray]:
        train = open_source("digits", "train")
        assert isinstance(train, ArraySource)
        return {"images-idx3": train.pixels[..., 0], "labels-idx1": train.labels}

    return _select("digits", parts, held_out)


def photograph_folder(out: Path, train: slice, val: slice) -> None:
    """A folder as a user would have it, of links to the photographs of ``PHOTOGRAPHS``.

    Photographs are in the order of a hash of their names. Files of equal content are left out, all
    of them: some have two labels.

    Args:
        out: the directory; left alone if it exists.
        train: which photographs of each class are trained on.
        val: which ones judge.
    """
    if out.exists():
        return
    found = sorted(PHOTOGRAPHS.glob("*/*.jpg"))
    if not found:
        raise SystemExit(f"no CLASS/*.jpg in {PHOTOGRAPHS}; set PHOTOGRAPHS to where they are")
    contents = {path: blake2b(path.read_bytes()).digest() for path in found}
    copies = Counter(contents.values())
    classes: dict[str, list[Path]] = {}
    for path in sorted(found, key=lambda path: blake2b(path.name.encode()).digest()):
        if copies[contents[path]] == 1:
            classes.setdefault(path.parent.name, []).append(path)
    made = out.with_suffix(".part")
    for name, photographs in classes.items():
        for split, kept in (("train", photographs[train]), ("val", photographs[val])):
            directory = made / split / name
            directory.mkdir(parents=True, exist_ok=True)
            for path in kept:
                (directory / path.name).symlink_to(path.resolve())
    made.rename(out)


def fashion_classes(
    out: Path, classes: Sequence[int], each: int | None = None, *, held_out: int = 0
) -> None:
    """Images of some classes, as IDX files that keep the labels.

    Args:
        out: the directory; left alone if it exists.
        classes: their labels.
        each: training images of each class, the first ones; None: all.
        held_out: the last training images, which stand where ``t10k`` would; 0: ``t10k`` itself.
    """
    if out.exists():
        return
    made = out.with_suffix(".part")
    made.mkdir(parents=True, exist_ok=True)
    kinds = (("images-idx3", 3), ("labels-idx1", 1))
    read = {(s, k): read_idx(FASHION / f"{s}-{k}-ubyte.gz", n) for s in SPLITS for k, n in kinds}
    end = len(read["train", "labels-idx1"]) - held_out
    if held_out:
        read |= {("t10k", kind): read["train", kind][end:] for kind, _ in kinds}
    kept = {
        "train": _rows(read["train", "labels-idx1"][:end], classes, each),
        "t10k": _rows(read["t10k", "labels-idx1"], classes, None),
    }
    for (split, kind), values in read.items():
        write_idx(made / f"{split}-{kind}-ubyte.gz", values[kept[split]])
    made.rename(out)


def _rows(labels: np.ndarray, classes: Sequence[int], each: int | None) -> np.ndarray:
    """The first images of each of these classes, in their order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:each] for label in classes]))


def _select(name: str, parts: Callable[[], dict[str, np.ndarray]], held_out: int) -> Path:
    """Images and labels in two, written once; the last ones as ``t10k``."""
    out = DATA / f"{name}-select-{held_out}"
    if out.exists():
        return out
    made = out.with_suffix(".part")
    made.mkdir(parents=True, exist_ok=True)
    for kind, values in parts().items():
        write_idx(made / f"train-{kind}-ubyte.gz", values[:-held_out])
        write_idx(made / f"t10k-{kind}-ubyte.gz", values[-held_out:])
    made.rename(out)
    return out


if __name__ == "__main__":
    fashion_part(1000, 10000)
    fashion_part(4000, 10000)
