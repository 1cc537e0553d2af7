"""The compiled library, which is built with the package; nothing is compiled at run time."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

from normfree.kernels import pool, sources

FILE = Path(__file__).with_name("_cpu.so")
"""Path of the library in a built package."""

VARIABLE = "NORMFREE_KERNELS"
"""The environment variable that disables the kernels if it is 0."""


class Status(NamedTuple):
    """Whether the kernels are used on the CPU.

    Attributes:
        instruction_set: the instruction set in use, ``"avx512"``, ``"avx2"`` or ``"neon"``;
            ``None`` if PyTorch operations are used instead.
        reason: why the kernels are not used; empty if they are.
    """

    instruction_set: str | None
    reason: str = ""

    def __str__(self) -> str:
        """Describe the status in one line.

        >>> print(Status("avx2")), print(Status(None, "the package was built without a compiler"))
        C kernels (avx2)
        PyTorch's operations: the package was built without a compiler
        (None, None)
        """
        if self.instruction_set:
            return f"C kernels ({self.instruction_set})"
        return f"PyTorch's operations: {self.reason}"


def status() -> Status:
    """Whether the kernels are used on the CPU, and if not, why; results are the same either way.

    They are used if they were built with the package, the CPU supports AVX2 with FMA or NEON, and
    the environment variable ``NORMFREE_KERNELS`` is not 0.

    >>> status().instruction_set in ("avx512", "avx2", "neon", None)
    True
    """
    if os.environ.get(VARIABLE) == "0":
        return Status(None, f"{VARIABLE} is 0")
    return _load()[1]


def available() -> bool:
    """Whether the kernels are used on the CPU.

    >>> available() == (status().reason == "")
    True
    """
    return library() is not None


def library() -> ctypes.CDLL | None:
    """The library, or ``None`` if the kernels are not used."""
    return None if os.environ.get(VARIABLE) == "0" else _load()[0]


def use(instruction_set: str = "") -> str:
    """Select an instruction set for tests or benchmarks; by default, the best one.

    Returns:
        The instruction set now in use, or an empty string if this CPU does not support the
        requested one, in which case nothing changes.
    """
    kernels = library()
    return kernels.normfree_use(instruction_set.encode()).decode() if kernels else ""


@cache
def _load() -> tuple[ctypes.CDLL | None, Status]:
    if not FILE.exists():
        return None, Status(None, "kernels were not built with the package (no C compiler?)")
    try:
        kernels = ctypes.CDLL(str(FILE))
        for name in ("sources", "operations", "use"):
            getattr(kernels, f"normfree_{name}").restype = ctypes.c_char_p
        built_from = kernels.normfree_sources().decode()
    except (OSError, AttributeError) as error:
        return None, Status(None, f"{FILE.name} cannot be loaded: {error}")
    if sources.digest() not in (None, built_from):
        return None, Status(None, f"{FILE.name} was built from other sources; reinstall normfree")
    instruction_set = _best(kernels)
    if not instruction_set:
        return None, Status(None, "this CPU has neither AVX2 with FMA nor NEON")
    pool.share(kernels)
    return kernels, Status(instruction_set)


def _best(kernels: ctypes.CDLL) -> str:
    """Select the best instruction set; an empty string if the CPU supports none."""
    found: str = kernels.normfree_use(b"").decode()
    return found
