"""The hardware and software environment of a measurement."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from normfree.kernels import status


def environment() -> dict[str, Any]:
    """Hardware, software versions and date, to be stored with benchmark results.

    Returns:
        ``date``, ``processor``, ``cores``, ``threads`` (used by PyTorch), ``accelerator`` (None
        without one), ``system``, ``python``, ``torch``, ``normfree``, ``kernels`` (the
        implementation of augmentation on the CPU, and why it is used), and ``commit`` (None
        outside a git clone; followed by ``+`` if the package has uncommitted changes).

    Example:
        >>> environment()["torch"] == torch.__version__
        True
    """
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "normfree": version("normfree"),
        "kernels": str(status()),
        "commit": _commit(),
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    package = Path(__file__).parents[1]

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    try:
        head, changes = git("rev-parse", "--short=12", "HEAD"), git("diff", "HEAD", "--", ".")
    except OSError:  # git is not installed
        return None
    return head.stdout.strip() + "+" * bool(changes.stdout) if head.returncode == 0 else None
