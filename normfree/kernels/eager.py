"""Whether kernels, which only compute values, may take the place of equations here."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

_PLAIN = frozenset((Tensor, nn.Parameter))  # others, such as fake tensors, may have no memory


def plain(*tensors: Tensor | None) -> bool:
    """Whether tensors are float32 on the host, with memory of their own.

    >>> plain(torch.zeros(2), None), plain(torch.zeros(2, dtype=torch.float64))
    (True, False)
    """
    return all(
        x is None
        or (
            type(x) in _PLAIN
            and x.dtype == torch.float32
            and x.is_cpu
            and x.layout == torch.strided
            and not x.is_neg()
        )
        for x in tensors
    )


def transformed() -> bool:
    """Whether ``torch.func`` or forward-mode differentiation transforms the computation."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def eager() -> bool:
    """Whether operators compute at once: nothing compiles, traces, transforms or watches them.

    >>> with torch.autograd.forward_ad.dual_level():
    ...     print(eager())
    False
    """
    return not (
        torch.compiler.is_compiling()
        or transformed()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
    )
