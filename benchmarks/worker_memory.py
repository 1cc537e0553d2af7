"""Memory of each reading worker over ten epochs of photographs.

    python benchmarks/worker_memory.py benchmarks/results/DATE_worker_memory.json

Generated JPEGs of 500 × 375 pixels, training crops of 192 px in float32, batches of 64. "anonymous"
is memory that belongs to a worker alone; "batches" is what it shares with the main process, which
holds batches that were read ahead. Both at the end of an epoch, the largest worker. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from normfree.analysis.data_stages import write_jpegs
from normfree.analysis.environment import environment
from normfree.data import BatchPlan, TrainTransform, Workers, train_batches
from normfree.data.sources.folder import FolderSource

FILES, REPEATS, SIZE, BATCH, EPOCHS = 64, 8, 192, 64, 10


def megabytes(pid: int | None) -> dict[str, float]:
    """Memory of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {"anonymous_mb": sizes["Anonymous"], "batches_mb": sizes["Pss_Shmem"]}


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    epochs = []
    with TemporaryDirectory() as directory, closing(Workers(args.workers)) as workers:
        files = REPEATS * tuple(map(str, write_jpegs(Path(directory), FILES)))
        labels = np.zeros(len(files), np.int64)
        source = FolderSource(files=files, labels=labels, classes=("any",))
        plan = BatchPlan(seed=0, examples=len(files), batch_size=BATCH)
        steps = len(files) // BATCH
        transform, last = TrainTransform(SIZE), EPOCHS * steps
        batches = train_batches(source, transform, plan, start=0, stop=last, workers=workers)
        for step, _ in enumerate(batches, start=1):
            if step % steps == 0:
                found = [megabytes(child.pid) for child in multiprocessing.active_children()]
                epochs.append({name: round(max(f[name] for f in found), 1) for name in found[0]})
    result = {
        "benchmark": "worker_memory",
        **environment(),
        "images": len(files),
        "size": SIZE,
        "batch_size": BATCH,
        "workers": args.workers,
        "epochs": epochs,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(*epochs, sep="\n")


if __name__ == "__main__":
    main()
