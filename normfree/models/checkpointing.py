"""Activation checkpointing: recompute a block's inner activations in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: Tensor, keys: Tensor | None) -> Tensor:
    """The output of a block, keeping only its input for the backward pass.

    Masks are counter-based, so the second pass reproduces them. Batch statistics are updated in the
    first pass only; under ``torch.compile``, the compiler ensures that buffers are written once.
    """
    if torch.compiler.is_compiling():
        return checkpoint(block, x, keys, use_reentrant=False)
    contexts = lambda: (nullcontext(), _statistics_kept(block))  # noqa: E731
    return checkpoint(block, x, keys, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Use batch statistics without updating the running ones, as the first pass already has."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in before:
        assert count is not None
        norm.momentum, norm.num_batches_tracked = 0.0, count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
