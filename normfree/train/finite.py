"""Refuse weights and losses that are not numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.optim.shards import local
from normfree.train.runtime import Runtime

_NEVER = 2**62  # a place in a list that no run comes to


class NonFiniteError(UserError):
    """Training has diverged.

    Args:
        what: what was not finite: ``the loss`` or the name of a parameter.
        step: the step, from 0, whose loss it was or after which it was seen.
        details: what else is known.

    >>> print(NonFiniteError("the loss", 7, "the loss is nan"))
    the loss is not finite at step 7 (the loss is nan); the checkpoints before it are kept. Lower
    the learning rate, lengthen the warm-up, or use --precision float32; if the fault is in single
    batches, go on without them: --resume --on-nonfinite skip
    """

    def __init__(self, what: str, step: int, details: str = "") -> None:
        super().__init__(
            f"{what} is not finite at step {step}{f' ({details})' if details else ''}; the "
            "checkpoints before it are kept. Lower the learning rate, lengthen the warm-up, or use "
            "--precision float32; if the fault is in single batches, go on without them: --resume "
            "--on-nonfinite skip"
        )
        self.step = step


def check_weights(model: nn.Module, step: int, runtime: Runtime | None = None) -> None:
    """Refuse weights that no run should be resumed from, on any rank.

    A finite loss can have a gradient that is not: the weights show it before the next loss does.

    Raises:
        NonFiniteError: names the parameter.
    """
    names, params = zip(*model.named_parameters(), strict=True)
    first = next(iter(_not_finite(params)), _NEVER)
    if runtime is not None:
        first = runtime.least(first)
    if first != _NEVER:
        raise NonFiniteError(f"parameter {names[first]}", step)


def parameters_not_finite(
    params: Sequence[Tensor], names: Sequence[str], runtime: Runtime
) -> list[str]:
    """The parameters that are not finite, on any rank, in their order.

    >>> params = [torch.ones(2), torch.tensor(torch.inf)]
    >>> parameters_not_finite(params, ["a", "b"], Runtime(device="cpu"))
    ['b']
    """
    places = {place for some in runtime.gathered(_not_finite(params)) for place in some}
    return [names[place] for place in sorted(places)]


def _not_finite(params: Sequence[Tensor]) -> list[int]:
    """Places of those that are not finite."""
    finite = torch.stack([torch.isfinite(local(p.detach())).all() for p in params])
    return [place for place, good in enumerate(finite.tolist()) if not good]
