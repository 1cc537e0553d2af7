"""Peak memory of a step, each in a process of its own."""

from __future__ import annotations

import importlib
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from normfree.analysis.training.entry import Entry
from normfree.analysis.training.step import build_step
from normfree.errors import UserError

STEPS = 2
"""Steps after the one that allocates what is kept."""

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(entry: Entry, threads: int) -> int | None:
    """Peak memory of training: weights, gradients, momentum, average, activations, work space.

    On the CPU: the largest resident memory of a fresh process during some steps, less what it held
    when the libraries had been imported. On CUDA: the most that PyTorch had allocated, in a fresh
    process, too. With ``compiled``, what the compiler keeps counts, what it took does not.

    Args:
        entry: the network.
        threads: of the process.

    Returns:
        Bytes; None on the CPU where the system does not tell (it is not Linux).

    Raises:
        UserError: the process was killed.
    """
    if not entry.device.startswith("cuda") and not _STATUS.exists():
        return None
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(_measured, entry, threads).result()
        except BrokenProcessPool:
            raise UserError(
                f"the process that measured the memory of {entry} was killed: there may be too "
                "little; lower --batch-size or --size, or use --no-memory"
            ) from None


def _measured(entry: Entry, threads: int) -> int:
    torch.set_num_threads(threads)
    if entry.by == "timm":
        importlib.import_module("timm")
    if entry.device.startswith("cuda"):
        return _on_cuda(entry)
    before = _resident("VmRSS")
    step = build_step(entry)
    step()
    _restart_peak()
    for _ in range(STEPS):
        step()
    return _resident("VmHWM") - before


def _on_cuda(entry: Entry) -> int:
    step = build_step(entry)
    step()
    torch.cuda.reset_peak_memory_stats(entry.device)
    for _ in range(STEPS):
        step()
    return torch.cuda.max_memory_allocated(entry.device)


def _resident(field: str) -> int:
    """Bytes; the process's own, where getrusage's begin at those of the process before ``exec``."""
    found = re.search(rf"{field}:\s*(\d+) kB", _STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])


def _restart_peak() -> None:
    """Forget the peak so far, where the system allows it."""
    try:
        _RESET.write_text("5")
    except OSError:  # the peak is then that of the first step, too
        return
