"""Compiled kernels: the results of the equations of higher rooms, sooner.

A kernel is optional and never the definition: each operator is registered with its equation in
PyTorch (:func:`operator`), which runs wherever there is no kernel and which the kernel is tested
against, bit for bit.
"""

from __future__ import annotations

from normfree.kernels.images import mix_bytes, normalize
from normfree.kernels.library import Status, available, status
from normfree.kernels.operator import operator
from normfree.kernels.randaugment import Call, Operations, randaugment

__all__ = [
    "Call",
    "Operations",
    "Status",
    "available",
    "mix_bytes",
    "normalize",
    "operator",
    "randaugment",
    "status",
]
