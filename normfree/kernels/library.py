"""The compiled library: built with the package or not there; nothing is compiled at run time."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

from normfree.kernels import sources

FILE = Path(__file__).with_name("_cpu.so")
"""Where building the package puts the library."""

VARIABLE = "NORMFREE_KERNELS"
"""The environment variable that switches kernels off when it is 0."""


class Status(NamedTuple):
    """Whether the kernels do the work on the CPU.

    Attributes:
        instruction_set: the one in use: ``"avx512"``, ``"avx2"`` or ``"neon"``; ``None`` where
            PyTorch's operations do the work.
        reason: why they do; empty where the kernels do.
    """

    instruction_set: str | None
    reason: str = ""

    def __str__(self) -> str:
        """One line for a person.

        >>> print(Status("avx2")), print(Status(None, "the package was built without a compiler"))
        C kernels (avx2)
        PyTorch's operations: the package was built without a compiler
        (None, None)
        """
        if self.instruction_set:
            return f"C kernels ({self.instruction_set})"
        return f"PyTorch's operations: {self.reason}"


def status() -> Status:
    """Whether the kernels do the work on the CPU, and why not; the results are the same.

    They do if they were built with the package, the processor has AVX2 and fused multiply-adds or
    NEON, and the environment variable ``NORMFREE_KERNELS`` is not 0.

    >>> status().instruction_set in ("avx512", "avx2", "neon", None)
    True
    """
    if os.environ.get(VARIABLE) == "0":
        return Status(None, f"{VARIABLE} is 0")
    return _load()[1]


def available() -> bool:
    """Whether the kernels do the work on the CPU.

    >>> available() == (status().reason == "")
    True
    """
    return library() is not None


def library() -> ctypes.CDLL | None:
    """The library, if its kernels do the work."""
    return None if os.environ.get(VARIABLE) == "0" else _load()[0]


def use(instruction_set: str = "") -> str:
    """Choose an instruction set, for a test or a measurement; or, again, the best.

    Returns:
        The one that is in use from now on; empty where this processor does not have what was asked
        for, and nothing changed.
    """
    kernels = library()
    return kernels.normfree_use(instruction_set.encode()).decode() if kernels else ""


@cache
def _load() -> tuple[ctypes.CDLL | None, Status]:
    if not FILE.exists():
        return None, Status(None, "they were not built with the package (no C compiler?)")
    try:
        kernels = ctypes.CDLL(str(FILE))
        for name in ("sources", "operations", "use"):
            getattr(kernels, f"normfree_{name}").restype = ctypes.c_char_p
        built_from = kernels.normfree_sources().decode()
    except (OSError, AttributeError) as error:
        return None, Status(None, f"{FILE.name} cannot be loaded: {error}")
    if sources.digest() not in (None, built_from):
        return None, Status(None, f"{FILE.name} was built from other sources; install again")
    instruction_set = _best(kernels)
    if not instruction_set:
        return None, Status(None, "this processor has neither AVX2 with FMA nor NEON")
    return kernels, Status(instruction_set)


def _best(kernels: ctypes.CDLL) -> str:
    """The best instruction set, in use from now on; empty where the processor has none."""
    found: str = kernels.normfree_use(b"").decode()
    return found
