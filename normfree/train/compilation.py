"""Compile what a step computes for its gradient, and keep what was compiled for the next run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from normfree.cache_home import cache_home
from normfree.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""PyTorch's environment variable for the directory of what was compiled."""


def compiled(function: Callable[P, R], device: str, *, graphs: bool = False) -> Callable[P, R]:
    """A function as one graph, and its gradient as another, by ``torch.compile``.

    Compilation happens in the first call with arguments of a new shape; the shapes of a run are
    few. What was compiled lies in :func:`cache_directory`.

    Args:
        function: computes with tensors alone.
        device: where.
        graphs: on CUDA, record all kernels once and launch them together (CUDA graphs), which
            saves the host a launch for each. Results then lie in memory that the next call
            overwrites: the caller must be done with them, and with their gradients.

    Raises:
        UserError: there is no compiler for the device, or it fails.
    """
    _check_compiler(device)
    keep_compiled()
    mode = "reduce-overhead" if graphs and device.startswith("cuda") else None
    fast = torch.compile(function, dynamic=False, mode=mode)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return fast(*args, **kwargs)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().partition("\n")[0]
            raise UserError(
                f"the step cannot be compiled: {reason}; train without --compile"
            ) from error

    return call


def cache_directory() -> Path | None:
    """Where compiled code is kept: PyTorch's environment variable, or a directory of the user.

    That is ``compiled`` in :func:`~normfree.cache_home.cache_home`. PyTorch itself would use
    the directory of temporary files, which many systems empty when they start. None if nothing can
    be written there.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    try:
        directory = cache_home() / "compiled"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, UserError):  # read-only, or there is no home
        return None
    return directory if os.access(directory, os.W_OK) else None


def about_compilation(compiles: bool) -> list[str]:
    """What to say before the first step."""
    if not compiles:
        return []
    directory = cache_directory()
    kept = "and nothing can be kept for the next run" if directory is None else f"into {directory}"
    return [f"compiling in the first step, {kept}: minutes, or less if it was compiled before"]


def keep_compiled() -> None:
    """Let PyTorch keep compiled code in :func:`cache_directory`."""
    directory = cache_directory()
    if directory is not None:
        os.environ[VARIABLE] = str(directory)


def _check_compiler(device: str) -> None:
    """Refuse to start where ``torch.compile`` would fail after a while."""
    if device.startswith("cuda"):
        from torch.utils._triton import has_triton

        if not has_triton():
            raise UserError(
                "--compile needs Triton, which PyTorch for CUDA installs; install it (pip install "
                "triton), or train without --compile"
            )
    elif device == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise UserError(
                "--compile needs a C++ compiler on the CPU, and found none: install g++ or clang++ "
                "(or name one in the environment variable CXX), or train without --compile"
            ) from error
