"""What to keep for repeated epochs: files, decoded images, or packs; images a second on one core.

    OMP_NUM_THREADS=1 python benchmarks/loader_stores.py benchmarks/results/DATE_loader_stores.json

Generated JPEGs of 500 × 375 pixels, training crops of 192 px. "read" ends with the decoded pixels,
every eighth row of which is touched; "all" ends with the batch. Each store takes its turn in each
round, and the best round counts, in processor time. Everything is in the system's cache of files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pillow_data
import torch

from normfree.analysis.data_stages import write_jpegs
from normfree.analysis.environment import environment
from normfree.data import BatchPlan, Source, TrainTransform, Transform, decode, train_batches
from normfree.data.cache import CachedSource, PixelCache
from normfree.data.pack import open_pack
from normfree.data.pack_writer import write_pack
from normfree.data.packing import Packing
from normfree.data.sources.folder import FolderSource

IMAGES, SIZE, SHORT = 64, 192, 256


class InMemory(FolderSource):
    """Files whose contents are in memory."""

    contents: list[bytes]

    def image(self, index: int) -> np.ndarray:
        """Decoded on access."""
        return decode(self.contents[index])


def touch(image: np.ndarray, rng: object) -> np.ndarray:
    """Make the system read the pixels."""
    return np.full((1, 1, 1), image[::8].sum() & 255, np.uint8)


def batch(source: Source, transform: Transform) -> Callable[[], object]:
    """Reads all images as a batch."""
    plan = BatchPlan(seed=0, examples=IMAGES, batch_size=IMAGES)
    return lambda: next(iter(train_batches(source, transform, plan, start=0, stop=1)))


def stores(directory: Path, files: list[Path]) -> dict[str, Source]:
    """The same images in every store."""
    facts = {"files": tuple(map(str, files)), "labels": np.zeros(IMAGES, np.int64)}
    folder = FolderSource(**facts, classes=("any",))  # type: ignore[arg-type]
    memory = InMemory(**facts, classes=("any",))  # type: ignore[arg-type]
    object.__setattr__(memory, "contents", [file.read_bytes() for file in files])
    found: dict[str, Source] = {"files": folder, "files in memory": memory}
    found["cache ram"] = CachedSource(folder, PixelCache.in_memory(IMAGES, 10**9))
    disk = PixelCache.on_disk(directory / "cache", bytes(16), IMAGES, 10**9)
    found["cache disk"] = CachedSource(folder, disk)
    for name, settings in {
        "pack raw": {},
        "pack jpeg": {"encoding": "jpeg"},
        f"pack raw {SHORT}": {"short_side": SHORT},
        f"pack jpeg {SHORT}": {"short_side": SHORT, "encoding": "jpeg"},
    }.items():
        write_pack(directory / name, {"train": folder}, Packing(**settings), made_of="generated")
        found[name] = open_pack(directory / name, "train")
    return found


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as directory:
        files = write_jpegs(Path(directory), IMAGES)
        calls = {("pillow", "all"): pillow_data.stages(files, SIZE, "train")[-1].call}
        for name, source in stores(Path(directory), files).items():
            calls[name, "read"] = batch(source, touch)
            calls[name, "all"] = batch(source, TrainTransform(SIZE))
        best = dict.fromkeys(calls, float("inf"))
        for call in calls.values():
            call()
        for _ in range(args.rounds):
            for key, call in calls.items():
                began = time.process_time()
                call()
                best[key] = min(best[key], time.process_time() - began)
        sizes = {path.name: path.stat().st_size // IMAGES for path in Path(directory).glob("pack*")}
    rates = [
        {"store": store, "stage": stage, "images_per_second_per_core": round(IMAGES / seconds)}
        for (store, stage), seconds in best.items()
    ]
    result = {"benchmark": "loader_stores", **environment(), "size": SIZE, "rates": rates}
    args.out.write_text(json.dumps(result | {"bytes_per_image": sizes}, indent=1) + "\n")
    for rate in rates:
        print(*rate.values(), sep="\t")


if __name__ == "__main__":
    main()
