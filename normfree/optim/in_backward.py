"""Updating parameters while the backward pass runs, so that few gradients are ever in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

#: Gradients are held until they have so many bytes: one update of many tensors is faster.
PENDING_BYTES = 16 << 20


@contextmanager
def updated_in_backward(
    params: Sequence[Tensor], update: Callable[[], None], pending_bytes: int = PENDING_BYTES
) -> Iterator[None]:
    """Call ``update`` and drop the gradients whenever enough of them are complete.

    Gradients that are left at the end are the caller's, and so are all that there are after an
    error.

    Args:
        params: the parameters; each has its whole gradient after one backward pass.
        update: updates the parameters that have a gradient.
        pending_bytes: size of the gradients from which on they are used and dropped.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> with updated_in_backward([w], lambda: w.sub_(w.grad), pending_bytes=0):
        ...     (3 * w).sum().backward()
        >>> w.detach(), w.grad
        (tensor([-2., -2.]), None)
    """
    complete: list[Tensor] = []

    @torch.no_grad()
    def use(param: Tensor) -> None:
        complete.append(param)
        if sum(p.nbytes for p in complete) >= pending_bytes:
            update()
            for updated in complete:
                updated.grad = None
            complete.clear()

    trained = [param for param in params if param.requires_grad]
    if sum(param.nbytes for param in trained) <= pending_bytes:
        trained = []  # nothing would be dropped before the end
    hooks = [param.register_post_accumulate_grad_hook(use) for param in trained]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
