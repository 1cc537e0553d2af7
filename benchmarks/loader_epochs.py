"""Start of a run on a long index, and memory of the reading processes epoch by epoch.

    python benchmarks/loader_epochs.py benchmarks/results/DATE_loader_epochs.json

A source of 1.3 million names, whose images are generated, is opened and read by workers up to the
first batch: seconds, and memory of all processes. These batches are small, so that the index
counts. Then a small source is read for ten epochs: memory of each worker by itself (proportional
set size without the shared batches) after each epoch. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from loader_memory import memory

from normfree.analysis.environment import environment
from normfree.data import BatchPlan, TrainTransform, Workers, train_batches


@dataclass(frozen=True, eq=False)
class Names:
    """Images that are functions of their index, with a name of 40 letters each."""

    blob: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """As a path would be."""
        return self.blob[40 * index : 40 * index + 40].tobytes().decode()

    def image(self, index: int) -> np.ndarray:
        """A photograph's size, of one gray level."""
        return np.full((375, 500, 3), ord(self.name(index)[-5]), dtype=np.uint8)


def source(examples: int) -> Names:
    """A source of many images."""
    names = "".join(
        f"train/n{index % 1000:08d}/image_{index:014d}.jpg" for index in range(examples)
    )
    blob = np.frombuffer(names.encode(), np.uint8)
    return Names(blob, np.arange(examples) % 1000, tuple(map(str, range(1000))))


def start(examples: int, workers: int) -> dict[str, float]:
    """From nothing to the first batch."""
    before, began = sum(memory().values()), time.perf_counter()
    images = source(examples)
    plan = BatchPlan(seed=0, examples=len(images), batch_size=64)
    with closing(Workers(workers)) as pool:
        batches = train_batches(images, TrainTransform(32), plan, start=0, stop=50, workers=pool)
        next(batches)
        seconds = time.perf_counter() - began
        grown = sum(memory().values()) - before
    index = (images.blob.nbytes + images.labels.nbytes) / 1e6
    return {
        "examples": examples,
        "seconds_to_first_batch": round(seconds, 2),
        "index_mb": round(index, 1),
        "all_processes_grew_mb": round(grown / 1e6, 1),
    }


def private(pid: int) -> float:
    """Memory of a process in MB, without what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return round((sizes["Pss"] - sizes["Pss_Shmem"]) / 1e3, 1)


def epochs(workers: int, count: int) -> list[dict[str, object]]:
    """Memory of each worker after each epoch."""
    images = source(1024)
    plan = BatchPlan(seed=0, examples=len(images), batch_size=64, mixing="mixup")
    steps = len(images) // 64
    found: list[dict[str, object]] = []
    with closing(Workers(workers)) as pool:
        batches = train_batches(
            images, TrainTransform(192), plan, start=0, stop=count * steps, workers=pool
        )
        for number, _ in enumerate(batches, 1):
            if number % steps == 0:
                pids = sorted(child.pid or 0 for child in multiprocessing.active_children())
                found.append(
                    {
                        "epoch": number // steps,
                        "worker_mb": [private(pid) for pid in pids],
                        "shared_mb": round(memory()["shared"] / 1e6, 1),
                    }
                )
    return found


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--examples", type=int, default=1_300_000)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    result = {
        "benchmark": "loader_epochs",
        **environment(),
        "workers": args.workers,
        "start": [start(args.examples, args.workers)],
        "epochs": epochs(args.workers, args.epochs),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps([result["start"], result["epochs"]], indent=1))


if __name__ == "__main__":
    main()
