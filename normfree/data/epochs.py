"""Epoch boundaries in a run that counts steps, each computed in O(1)."""

from __future__ import annotations


def epoch_of(step: int, *, examples: int, batch_size: int) -> int:
    """The epoch (from 1) that a step (from 0) belongs to: ``⌈(step + 1) · B / N⌉``.

    >>> [epoch_of(step, examples=10, batch_size=4) for step in range(5)]
    [1, 1, 2, 2, 2]
    """
    return -(-(step + 1) * batch_size // examples)


def epoch_end(epoch: int, *, examples: int, batch_size: int, total_steps: int) -> int:
    """Steps completed by the end of an epoch (from 1): ``min(⌊epoch · N / B⌋, total_steps)``.

    >>> [epoch_end(epoch, examples=10, batch_size=4, total_steps=6) for epoch in (1, 2, 3)]
    [2, 5, 6]
    """
    return min(epoch * examples // batch_size, total_steps)


def epoch_ended(steps: int, *, examples: int, batch_size: int, total_steps: int) -> int | None:
    """The epoch (from 1) that ends after exactly ``steps`` steps; None if no epoch ends there.

    The last step ends the last epoch, which may be incomplete. If a batch is larger than an epoch,
    one step ends several epochs, and the last of them is returned.

    >>> length = {"examples": 10, "batch_size": 4, "total_steps": 6}
    >>> {steps: epoch_ended(steps, **length) for steps in range(7)}
    {0: None, 1: None, 2: 1, 3: None, 4: None, 5: 2, 6: 3}
    """
    if not 1 <= steps <= total_steps:
        return None
    if steps == total_steps:
        return -(-total_steps * batch_size // examples)
    epoch = ((steps + 1) * batch_size - 1) // examples  # the largest with ⌊epoch · N / B⌋ ≤ steps
    return epoch if epoch >= 1 and epoch * examples // batch_size == steps else None
