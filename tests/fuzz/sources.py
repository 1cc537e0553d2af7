"""Files that hold images or settings rather than weights, for ``fuzz_files.py``."""

from __future__ import annotations

import io
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from normfree.data import open_source
from normfree.data.pack_writer import write_pack
from normfree.data.packing import Packing
from normfree.errors import BadImageError
from normfree.models import ImageClassifier
from normfree.train.resolve import resolve
from normfree.train.run_dir import RunDirectory
from normfree.train.saved import read_config, write_config
from normfree.train.sources import open_sources
from tests.unit.train.tiny import tiny_recipe

_DIGITS = "synthetic:12x8x1x3"


def _images() -> list[tuple[str, bytes]]:
    """Name and content of small images, six of two classes."""
    found = []
    for number in range(6):
        file = io.BytesIO()
        pixels = np.full((6, 5, 3), 40 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        found.append((f"{('cat', 'dog')[number % 2]}/{number}.png", file.getvalue()))
    return found


def shard(model: ImageClassifier, path: Path) -> Path:
    """A tar shard of images and labels."""
    with tarfile.open(path, "w") as archive:
        for name, content in _images():
            for member, data in ((name, content), (f"{name[:-4]}.cls", name[:3].encode())):
                header = tarfile.TarInfo(member)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    return path


def parquet(model: ImageClassifier, path: Path) -> Path:
    """Images and labels as columns."""
    import pyarrow as pa
    from pyarrow import parquet as files

    names, contents = zip(*_images(), strict=True)
    table = {"image": list(contents), "label": [name[:3] for name in names]}
    files.write_table(pa.table(table), path)
    return path


def table(model: ImageClassifier, path: Path) -> Path:
    """A table of files and labels."""
    for name, content in _images():
        file = path.parent / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    lines = [f"{name},{name[:3]}" for name, _ in _images()]
    path.write_text("\n".join(["image,label", *lines]) + "\n")
    return path


def pack(model: ImageClassifier, path: Path) -> Path:
    """A pack of images."""
    sources = {"train": open_source(_DIGITS, "train"), "val": open_source(_DIGITS, "val")}
    write_pack(path, sources, Packing(), made_of=_DIGITS)  # type: ignore[arg-type]
    return path


def config(model: ImageClassifier, path: Path) -> Path:
    """``config.yaml`` of a run."""
    recipe = tiny_recipe(path.parent, data=_DIGITS)
    directory = RunDirectory(path.parent)
    directory.write_config(write_config(resolve(recipe, *open_sources(_DIGITS))))
    return directory.config


def read_run(path: Path) -> None:
    """What ``--resume`` reads first."""
    directory = RunDirectory(path.parent)
    read_config(directory.read_config(), directory.config)


def read_images(kind: str, path: Path) -> None:
    """Open, and decode all images."""
    source = open_source(f"{kind}:{path}", "train", on_bad_image="skip")
    for index in range(min(len(source), 20)):
        try:
            source.image(index)
            source.name(index)
        except BadImageError:
            continue


READERS = {kind: partial(read_images, kind) for kind in ("wds", "parquet", "csv", "pack")}
