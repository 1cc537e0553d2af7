"""An index of a million images costs each worker next to nothing."""

from __future__ import annotations

import multiprocessing
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from normfree.data import BatchPlan, Workers, train_batches


@dataclass(frozen=True, eq=False)
class Named:
    """Images that show whether their name arrived."""

    blob: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ("a", "b")
    channels: int = 1

    def __len__(self):
        return len(self.labels)

    def name(self, index):
        return self.blob[40 * index : 40 * index + 40].tobytes().decode()

    def image(self, index):
        return np.full((4, 4, 1), int(self.name(index)[-7:]) % 256, np.uint8)


def private_mb(pid):
    """Memory that belongs to a process alone: not that of a file, whoever else maps it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return sizes["Anonymous"] / 1024


def worker_mb(examples):
    text = "".join(f"train/class_{number % 2}/{number:026d}" for number in range(examples))
    blob = np.frombuffer(text.encode(), np.uint8)
    source = Named(blob, np.arange(examples) % 2)
    assert source.name(3).endswith("class_1/00000000000000000000000003")
    plan = BatchPlan(seed=0, examples=examples, batch_size=64)
    with closing(Workers(1)) as workers:
        batches = train_batches(source, None, plan, start=0, stop=20, workers=workers)
        for step, batch in zip(range(20), batches, strict=True):
            wanted = plan.places(step).indices % 10**7 % 256
            np.testing.assert_array_equal(batch.images[:, 0, 0, 0].numpy(), wanted)
        (child,) = multiprocessing.active_children()
        return private_mb(child.pid)


@pytest.mark.parametrize("examples", [200_000, pytest.param(1_300_000, marks=pytest.mark.slow)])
def test_a_worker_maps_the_index_and_does_not_copy_it(examples):
    # Beside the index, which takes 48 bytes an image, a worker holds the order of two epochs.
    grown = worker_mb(examples) - worker_mb(1000)
    assert grown < 10 + 3 * 8 * examples / 2**20
