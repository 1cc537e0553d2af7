"""Time and memory from a directory of 1.3 million images to the first batch.

    python benchmarks/index_memory.py OUT.json [--images 1300000] [--classes 1000] [--place DIR]

The files are hard links to a few images, so that the directory takes entries and no space; they
are removed at the end. A new process opens both splits (a tenth of each class validates, because
there is no ``val``), hashes the names for the run's record, and reads a batch of 64.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from normfree.analysis.environment import environment
from normfree.data import BatchPlan, TrainTransform, open_source, train_batches
from normfree.train.resolve import _fingerprint

LINKS = 30_000  # to one file; ext4 allows 65,000
BATCH = 64


def make(directory: Path, images: int, classes: int) -> None:
    """Make the files, each with a name like ImageNet's, in ``train/CLASS/``."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    Image.fromarray(pixels).save(file, "jpeg")
    for label in range(classes):
        place = directory / "train" / f"n{label:08}"
        place.mkdir(parents=True)
        for number in range(label, images, classes):
            original = directory / f"image{number // LINKS}"
            if not original.exists():
                original.write_bytes(file.getvalue())
            os.link(original, place / f"n{label:08}_{number}.JPEG")


def peak() -> float:
    """The largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(directory: Path) -> dict[str, float]:
    """From the directory to the first batch, in this process."""
    before, began, found = peak(), time.perf_counter(), {}

    def reached(what: str) -> None:
        found[f"{what}_seconds"] = round(time.perf_counter() - began, 2)
        found[f"{what}_peak_mb"] = round(peak() - before, 1)

    train, val = (open_source(f"folder:{directory}", split) for split in ("train", "val"))
    reached("index")
    _fingerprint(train)
    reached("fingerprint")
    plan = BatchPlan(seed=0, examples=len(train), batch_size=BATCH)
    batch = next(train_batches(train, TrainTransform(96), plan, start=0, stop=1))
    assert len(batch.images) == BATCH
    reached("first_batch")
    kept = train.files.blob.nbytes + train.files.offsets.nbytes + train.labels.nbytes
    return {
        "train_images": len(train),
        "val_images": len(val),
        "before_mb": round(before, 1),
        "index_bytes_per_image": round(kept / len(train), 1),
        **found,
    }


def main() -> None:
    """Make the files, measure in a process of its own, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file; '-' measures what --place holds")
    parser.add_argument("--images", type=int, default=1_300_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--place", type=Path, help="where to make the files")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    if str(args.out) == "-":
        print(json.dumps(measure(args.place)))
        return
    directory = Path(tempfile.mkdtemp(dir=args.place))
    try:
        make(directory, args.images, args.classes)
        command = [sys.executable, __file__, "-", "--place", str(directory)]
        rounds = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(args.rounds)
        ]
    finally:
        shutil.rmtree(directory)
    result = {
        "benchmark": "index_memory",
        **environment(),
        "images": args.images,
        "classes": args.classes,
        "n": len(rounds),
        "rounds": rounds,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(rounds))


if __name__ == "__main__":
    main()
