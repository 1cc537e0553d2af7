"""The images of the experiments: a part of Fashion-MNIST, and folders of photographs.

    python -m experiments.data

Fashion-MNIST is read from Debian's package ``dataset-fashion-mnist``, the photographs are those of
``mate-backgrounds``. All is written to ``experiments/data/``.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from normfree.data.sources.idx import read_idx

HERE = Path(__file__).parent
DATA = HERE / "data"
FASHION = Path("/usr/share/datasets/fashion-mnist")
PHOTOGRAPHS = Path("/usr/share/backgrounds/mate/nature")

#: Classes of photographs that the experiment on transfer keeps for its second task.
SECOND_TASK = ("RainDrops", "Storm", "TwoWings", "Wood", "YellowFlower", "LadyBird")


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


def photographs() -> None:
    """Twelve classes; the same in two tasks of six, the second with few images."""
    whole = DATA / "photographs"
    script = HERE.parent / "examples" / "photo_folder.py"
    subprocess.run([sys.executable, script, PHOTOGRAPHS, whole], check=True)
    for split in ("train", "val"):
        for directory in sorted((whole / split).iterdir()):
            task = "second" if directory.name in SECOND_TASK else "first"
            out = DATA / f"photographs-{task}" / split / directory.name
            out.mkdir(parents=True, exist_ok=True)
            few = 10 if (task, split) == ("second", "train") else None
            for file in sorted(directory.iterdir())[:few]:
                shutil.copy(file, out)


if __name__ == "__main__":
    fashion_part(1000, 10000)
    fashion_part(4000, 10000)
    photographs()
