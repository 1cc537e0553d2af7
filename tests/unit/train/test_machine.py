from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from normfree.train import machine
from normfree.train.machine import free_cores, free_memory, usable_cores


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}, 8),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            4,
        ),
    ],
)
def test_cores_are_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores(write(tmp_path, files)) == cores


@pytest.mark.parametrize(
    ("busy", "free"),
    [(0, 4), (100, 3), (200, 2), (140, 3), (160, 2), (400, 1)],  # ticks in which a core has 100
)
def test_threads_are_for_cores_that_nobody_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: int, free: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    def stat(user: int, idle: int) -> None:
        write(tmp_path, {"proc/stat": f"cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n"})

    stat(1000, 5000)
    monkeypatch.setattr(machine.time, "sleep", lambda _: stat(1000 + busy, 5400 - busy))
    assert free_cores(tmp_path) == free


def test_without_ticks_the_load_of_the_last_minute_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.9, 1.0, 1.0))
    assert free_cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, math.inf),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   2000 kB\n"}, 2_048_000),
        ({"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "5"}, math.inf),
        (
            {
                "proc/meminfo": "MemAvailable:   2000 kB\n",
                "sys/fs/cgroup/memory.max": "1000000\n",
                "sys/fs/cgroup/memory.current": "900000\n",
                "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 50000\n",
            },
            150_000,
        ),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "2000\n",
            },
            0,
        ),
    ],
)
def test_memory_is_what_machine_and_container_leave(
    tmp_path: Path, files: dict[str, str], free: float
) -> None:
    assert free_memory(write(tmp_path, files)) == free


def test_this_machine_has_some_of_both() -> None:
    assert 1 <= free_cores() <= usable_cores() <= (os.cpu_count() or 1)
    assert free_memory() > 0
