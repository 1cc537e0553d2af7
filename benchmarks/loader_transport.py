"""A batch from a worker to the main process: in new shared memory, and in a ring of slots.

    python benchmarks/loader_transport.py benchmarks/results/DATE_loader_transport.json

A worker fills batches of 128 × 3 × 192 × 192 and the main process reads a byte of each page, as a
copy to the network would. New shared memory is what ``torch.utils.data.DataLoader`` takes for each
batch. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from normfree.analysis.environment import environment
from normfree.data.ring import allocate
from normfree.data.workers import read_ahead

SHAPE, WARM, COUNT = (128, 3, 192, 192), 10, 60


class Batch(NamedTuple):
    """A batch and its size."""

    images: torch.Tensor
    nbytes: int


class Filled(Dataset):  # type: ignore[type-arg]
    """Batches of one value."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __len__(self) -> int:
        return WARM + COUNT

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.full(SHAPE, number, dtype=self.dtype)

    def __call__(self, number: int) -> Batch:
        """In a slot."""
        images = allocate(SHAPE, self.dtype).fill_(number)
        return Batch(images, images.numel() * images.element_size())


def measured(batches: object) -> dict[str, float]:
    """Milliseconds for a batch: elapsed, and of this process."""
    iterator = iter(batches)  # type: ignore[call-overload]
    for _ in range(WARM):
        use(next(iterator))
    began, before = time.perf_counter(), os.times()
    for batch in iterator:
        use(batch)
    elapsed, after = time.perf_counter() - began, os.times()
    busy = after.user + after.system - before.user - before.system
    return {"elapsed_ms": round(1e3 * elapsed / COUNT, 2), "main_ms": round(1e3 * busy / COUNT, 2)}


def use(batch: Batch | torch.Tensor) -> None:
    """Touch every page."""
    images = batch.images if isinstance(batch, Batch) else batch
    images.view(torch.uint8).flatten()[::4096].sum().item()


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    args = parser.parse_args()
    rows = []
    for dtype in (torch.uint8, torch.float32):
        source = Filled(dtype)
        ways = {
            "DataLoader": DataLoader(source, batch_size=None, num_workers=1),
            "ring": read_ahead(source, range(len(source)), 1, 1 << 28),
        }
        for way, batches in ways.items():
            rows.append({"way": way, "dtype": str(dtype), **measured(batches)})
            print(*rows[-1].values(), sep="\t")
    result = {"benchmark": "loader_transport", **environment(), "batch": SHAPE, "rows": rows}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
