"""The compiled kernels: built by the system's C compiler on first use, and kept."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_SOURCES = ("pipeline.c", "operations.h")
_FLAGS = (
    *("-std=c99", "-O3", "-march=native", "-shared", "-fPIC", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
_SECONDS = 120  # after which a compiler is given up


def available() -> bool:
    """Whether kernels do the work on a CPU, rather than PyTorch's operations; both do the same.

    They are compiled by the first call that needs them, which takes a few seconds once a machine,
    and kept in ``$XDG_CACHE_HOME/normfree``. Without a C compiler or a place to write, or with
    ``NORMFREE_NATIVE=0``, they are not used; the logger ``normfree`` tells why at level DEBUG.
    """
    return library() is not None


def library() -> ctypes.CDLL | None:
    """The kernels, if there are any."""
    return None if os.environ.get("NORMFREE_NATIVE") == "0" else _load()


@cache
def _load() -> ctypes.CDLL | None:
    log = logging.getLogger("normfree")
    try:
        path = _build()
        log.debug("augmentation on a CPU is compiled: %s", path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError) as reason:  # or there is no home
        said = getattr(reason, "stderr", None) or reason
        log.debug("augmentation on a CPU is by PyTorch's operations: %s", said)
        return None


def _build() -> Path:
    """Compile, unless it was done before with the same sources, compiler and processor."""
    folder = Path(__file__).parent
    compiler = _compiler()
    # Its version, and what it knows of this processor: caches may be shared by unlike machines.
    about = _run(*compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull)
    parts = [about, " ".join((*compiler, *_FLAGS)), *((folder / x).read_text() for x in _SOURCES)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(cache_home) / "normfree" / f"augment-{name}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may do the same: each makes its own, and the last one stays.
        with tempfile.TemporaryDirectory(dir=path.parent) as own:
            made = Path(own) / path.name
            _run(*compiler, *_FLAGS, str(folder / _SOURCES[0]), "-o", str(made), "-lm")
            made.replace(path)
    return path


def _compiler() -> list[str]:
    """The command of the C compiler."""
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise OSError("there is no C compiler: none of cc, gcc and clang")


def _run(*words: str) -> str:
    """What a command prints."""
    result = subprocess.run(words, capture_output=True, text=True, check=True, timeout=_SECONDS)
    return result.stdout
