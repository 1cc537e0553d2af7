"""Peak host memory of loading and augmenting one training step of NFNet-F0.

    python benchmarks/loader_memory.py benchmarks/results/DATE_loader_memory.json

One step of ``imagenet_nfnet_f0 --accumulate 128 --workers 16`` on synthetic images: 4,096 examples
of 192 pixels in float32, each mixed with an image of a second batch, then RandAugment. The total
includes this process, its workers and the processes that start them. Each page counts once, by the
proportional set size; shared memory counts by its files, even if no process maps it at the moment.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from contextlib import closing
from pathlib import Path

from normfree.analysis.environment import environment
from normfree.augment import IMAGENET_MEAN, IMAGENET_STD, RandAugment
from normfree.data import BatchPlan, TrainTransform, open_source, train_batches
from normfree.train.device_transform import DeviceTransform

DATA = "synthetic:1024x224x3x1000"
BATCH, SIZE, ACCUMULATE = 4096, 192, 128


def descendants() -> list[Path]:
    """This process and its descendants, as directories of ``/proc``."""
    parents = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[directory.name] = fields[1]
    found = {Path("/proc/self").resolve().name}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return [Path("/proc", pid) for pid in found]


def memory() -> dict[str, int]:
    """Private and shared memory of all processes in bytes; private includes mapped files."""
    private = mapped = 0
    shared: dict[int, int] = {}
    for directory in descendants():
        try:
            lines = (directory / "smaps_rollup").read_text().splitlines()[1:]
            sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
            files = list((directory / "fd").iterdir())
        except OSError:  # the process has just exited
            continue
        private += sizes["Pss"] - sizes["Pss_Shmem"]
        mapped += sizes["Pss_Shmem"]
        for file in files:
            try:
                if str(file.readlink()).startswith("/memfd:normfree"):
                    facts = file.stat()
                    shared[facts.st_ino] = 512 * facts.st_blocks
            except OSError:
                continue
    return {"private": private, "shared": max(mapped, sum(shared.values()))}


class Peak(threading.Thread):
    """Samples the memory four times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.total, self.at, self.processes = 0, {"private": 0, "shared": 0}, 0
        self.stop = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        while not self.stop.wait(0.25):
            now = memory()
            self.processes = max(self.processes, len(descendants()))
            if sum(now.values()) > self.total:
                self.total, self.at = sum(now.values()), now


def step(workers: int) -> dict[str, float]:
    """Read and augment one step; peak memory in GB and time in seconds."""
    source = open_source(DATA, "train")
    plan = BatchPlan(
        seed=0, examples=len(source), batch_size=BATCH, mixing="mixup_cutmix", accumulate=ACCUMULATE
    )
    stage = DeviceTransform(
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        device="cpu",
        num_classes=1000,
        channels_last=True,
        randaugment=RandAugment(4, 5),
    )
    peak, began, images, largest = Peak(), time.perf_counter(), 0, 0
    batches = train_batches(source, TrainTransform(SIZE), plan, start=0, stop=1, workers=workers)
    peak.start()
    with closing(batches):  # type: ignore[type-var]
        for batch in batches:
            largest = max(largest, batch.images.numel() * batch.images.element_size())
            images += len(stage.normalized(stage(batch).images))
    peak.stop.set()
    peak.join()
    assert images == BATCH
    gigabytes = {name: round(value / 1e9, 3) for name, value in peak.at.items()}
    return {
        "peak_gb": round(peak.total / 1e9, 3),
        **gigabytes,
        "micro_batch_mb": round(largest / 1e6, 1),
        "processes": peak.processes,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="steps, each with new workers")
    args = parser.parse_args()
    rounds = [step(args.workers) for _ in range(args.rounds)]
    peaks = [row["peak_gb"] for row in rounds]
    result = {
        "benchmark": "loader_memory",
        **environment(),
        "data": DATA,
        "batch_size": BATCH,
        "size": SIZE,
        "accumulate": ACCUMULATE,
        "workers": args.workers,
        "n": len(rounds),
        "peak_gb": {"low": min(peaks), "high": max(peaks)},
        "rounds": rounds,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["peak_gb"]))


if __name__ == "__main__":
    main()
