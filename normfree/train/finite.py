"""Notice a loss that is not a number, without waiting for the device at every step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.optim.shards import local
from normfree.train.runtime import Runtime

_NEVER = 2**62  # a step, or a place in a list, that no run comes to


class NonFiniteError(UserError):
    """Training has diverged.

    Args:
        what: what was not finite: ``loss`` or the name of a parameter.
        step: the step, from 0, whose loss it was or after which it was seen.
    """

    def __init__(self, what: str, step: int) -> None:
        super().__init__(
            f"{what} is not finite at step {step}; the checkpoints before it are kept. "
            "Lower the learning rate, lengthen the warm-up, or use --precision float32"
        )
        self.step = step


class LossWatch:
    """Remembers, on the device, the first step whose loss was not finite.

    Example:
        >>> watch = LossWatch()
        >>> for step, loss in enumerate([1.0, float("nan"), float("inf")]):
        ...     watch.see(torch.tensor(loss), step)
        >>> watch.check()
        Traceback (most recent call last):
        normfree.train.finite.NonFiniteError: the loss is not finite at step 1; ...
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def see(self, loss: Float[Tensor, ""], step: int) -> None:
        """Look at the loss of a step; the host does not wait."""
        new = ~torch.isfinite(loss) & (self.first_bad < 0)
        self.first_bad.masked_fill_(new, step)

    def check(self, runtime: Runtime | None = None) -> None:
        """Wait for the device and stop the run if any loss was not finite, on any rank.

        Raises:
            NonFiniteError: names the first such step.
        """
        step = int(self.first_bad)
        if runtime is not None:
            first = runtime.least(step if step >= 0 else _NEVER)
            step = -1 if first == _NEVER else first
        if step >= 0:
            raise NonFiniteError("the loss", step)


def check_weights(model: nn.Module, step: int, runtime: Runtime | None = None) -> None:
    """Refuse weights that no run should be resumed from, on any rank.

    A finite loss can have a gradient that is not: the weights show it before the next loss does.

    Raises:
        NonFiniteError: names the parameter.
    """
    named = list(model.named_parameters())
    finite = torch.stack([torch.isfinite(local(p.detach())).all() for _, p in named])
    first = next((place for place, good in enumerate(finite.tolist()) if not good), _NEVER)
    if runtime is not None:
        first = runtime.least(first)
    if first != _NEVER:
        raise NonFiniteError(f"parameter {named[first][0]}", step)
