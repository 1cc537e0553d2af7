"""Where epochs end in a run that counts steps: each in O(1), however long the run is."""

from __future__ import annotations


def epoch_of(step: int, *, examples: int, batch_size: int) -> int:
    """The epoch, from 1, that a step (from 0) belongs to: ``⌈(step + 1) · B / N⌉``.

    >>> [epoch_of(step, examples=10, batch_size=4) for step in range(5)]
    [1, 1, 2, 2, 2]
    """
    return -(-(step + 1) * batch_size // examples)


def epoch_end(epoch: int, *, examples: int, batch_size: int, total_steps: int) -> int:
    """Steps done when an epoch (from 1) is over: ``⌊epoch · N / B⌋``, at most all of them.

    >>> [epoch_end(epoch, examples=10, batch_size=4, total_steps=6) for epoch in (1, 2, 3)]
    [2, 5, 6]
    """
    return min(epoch * examples // batch_size, total_steps)


def epoch_ended(steps: int, *, examples: int, batch_size: int, total_steps: int) -> int | None:
    """The epoch (from 1) that is over when exactly ``steps`` steps are done; None if none is.

    The last step ends the last epoch, which may not be a whole one. Where a batch is larger than
    an epoch, one step ends several; the last of them counts.

    >>> length = {"examples": 10, "batch_size": 4, "total_steps": 6}
    >>> {steps: epoch_ended(steps, **length) for steps in range(7)}
    {0: None, 1: None, 2: 1, 3: None, 4: None, 5: 2, 6: 3}
    """
    if not 1 <= steps <= total_steps:
        return None
    if steps == total_steps:
        return -(-total_steps * batch_size // examples)
    epoch = ((steps + 1) * batch_size - 1) // examples  # the last with ⌊epoch · N / B⌋ ≤ steps
    return epoch if epoch >= 1 and epoch * examples // batch_size == steps else None
