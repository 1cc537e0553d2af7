"""What a run may use of this machine: processor cores that nobody else uses, and free memory."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

_SAMPLE = 0.2  # seconds in which the load is measured
_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """Cores that this process may run on: by its affinity, and by the quota of its container."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(root))))


def free_cores(root: Path = _ROOT) -> int:
    """Usable cores that are idle now, and at least one.

    Threads that wait for each other are as slow as the slowest: one more than there are free cores
    can make a step several times slower.
    """
    idle = (os.cpu_count() or 1) - _busy_cores(root)
    return max(1, min(usable_cores(root), round(idle)))


def free_memory(root: Path = _ROOT) -> float:
    """Bytes that this process may still take: of the machine, and of its container; inf: unknown.

    What only caches files counts as free, because the kernel gives it back.
    """
    free = [math.inf]
    lines = _text(root / "proc/meminfo").splitlines()
    free += [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    cgroup = root / "sys/fs/cgroup"
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        most, now = _number(cgroup / limit), _number(cgroup / used)
        if math.isfinite(most) and math.isfinite(now):
            free.append(most - now + _file_cache(cgroup / stat))
    return max(0.0, min(free))


def _busy_cores(root: Path) -> float:
    """How many cores compute for anyone, measured for a moment; else the load of a minute."""
    first = _ticks(root)
    if first is None:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    time.sleep(_SAMPLE)
    second = _ticks(root) or first
    busy, all_ = (after - before for before, after in zip(first, second, strict=True))
    return (os.cpu_count() or 1) * busy / all_ if all_ > 0 else 0.0


def _ticks(root: Path) -> tuple[int, int] | None:
    """Time that all cores have computed, and have existed; None where the kernel does not say."""
    fields = _text(root / "proc/stat").partition("\n")[0].split()[1:]
    if len(fields) < 8 or not all(field.isdigit() for field in fields):
        return None
    user, nice, system, idle, waiting, *interrupts = map(int, fields[:8])
    busy = user + nice + system + sum(interrupts)
    return busy, busy + idle + waiting


def _quota(root: Path) -> float:
    """Cores' worth of time that the container has; inf without a limit."""
    cgroup = root / "sys/fs/cgroup"
    quota, _, period = _text(cgroup / "cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    share, every = (_number(cgroup / f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return share / every if 0 < every < math.inf else math.inf


def _file_cache(stat: Path) -> float:
    fields = dict(line.partition(" ")[::2] for line in _text(stat).splitlines())
    said = fields.get("inactive_file") or fields.get("total_inactive_file") or "0"
    return float(said) if said.isdigit() else 0.0


def _number(path: Path) -> float:
    text = _text(path).strip()
    return float(text) if text.isdigit() else math.inf


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
