"""Compiled CPU kernels for operators defined in other packages.

Kernels are optional and never define an operator. Each operator is registered with its equation in
PyTorch (:func:`operator`), which runs if there is no kernel. Kernels are tested against the
equation bit for bit.
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
