"""Compiled CPU kernels for operators defined in other packages.

Kernels are optional and never define an operator. Each operator is registered with its equation in
PyTorch (:func:`operator`), which runs if there is no kernel. Kernels are tested against the
equation bit for bit.
"""

from __future__ import annotations

from normfree.kernels.images import mix_bytes, normalize
from normfree.kernels.jpeg import JpegHeader, jpeg_header, jpeg_region
from normfree.kernels.library import Status, available, status
from normfree.kernels.operator import operator
from normfree.kernels.pointers import ask_for_huge_pages
from normfree.kernels.randaugment import Call, Operations, randaugment
from normfree.kernels.resize import resize
from normfree.kernels.rows import Weight, in_rows, standardize, standardize_backward, update_

__all__ = [
    "Call",
    "JpegHeader",
    "Operations",
    "Status",
    "Weight",
    "ask_for_huge_pages",
    "available",
    "in_rows",
    "jpeg_header",
    "jpeg_region",
    "mix_bytes",
    "normalize",
    "operator",
    "randaugment",
    "resize",
    "standardize",
    "standardize_backward",
    "status",
    "update_",
]
