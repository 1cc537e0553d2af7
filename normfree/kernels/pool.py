"""Running kernels in PyTorch's own threads.

After an operator, PyTorch's OpenMP threads wait for the next one by spinning for a few
milliseconds. Other threads would have to share the cores with them.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

_FUNCTIONS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
_MAPS = Path("/proc/self/maps")


def share(kernels: ctypes.CDLL) -> bool:
    """Let the kernels use PyTorch's threads if its OpenMP library can be found.

    Returns:
        Whether it was found; otherwise the kernels start threads of their own.
    """
    found = next(filter(None, map(_functions, _candidates())), None)
    if found is not None:
        kernels.normfree_use_pool(*found)
    return found is not None


def _candidates() -> list[str]:
    """OpenMP libraries that PyTorch has loaded: GNU's, or others with the same functions."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:  # not Linux
        return []
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines if "/" in line)
    names = ("libgomp", "libiomp5", "libomp")
    return [path for path in paths if Path(path).name.startswith(names)]


def _functions(path: str) -> list[ctypes.c_void_p] | None:
    try:
        openmp = ctypes.CDLL(path)
        return [ctypes.cast(getattr(openmp, name), ctypes.c_void_p) for name in _FUNCTIONS]
    except (OSError, AttributeError):
        return None
