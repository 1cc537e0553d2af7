"""Kernels for rows of weights on CUDA, written in Triton, which comes with PyTorch for CUDA.

They have the interface of the CPU kernels of :mod:`normfree.kernels.rows`, and work on the host too
where ``TRITON_INTERPRET=1`` was set before the start: slowly, for tests. Triton compiles a kernel
when it is first launched.
"""

from __future__ import annotations

from normfree.kernels.triton.launch import available
from normfree.kernels.triton.standardize import standardize, standardize_backward
from normfree.kernels.triton.update import updatable, update_

__all__ = ["available", "standardize", "standardize_backward", "updatable", "update_"]
