"""Threads of a benchmark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from normfree.errors import UsageError


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Within, PyTorch computes with ``count`` threads; None leaves it as it is.

    Raises:
        UsageError: there are not as many processor cores. PyTorch crashes with far too many.
    """
    cores = os.cpu_count() or 1
    if count is not None and not 1 <= count <= cores:
        raise UsageError(
            f"--threads must be from 1 to {cores}, the cores of this machine; got {count}"
        )
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
