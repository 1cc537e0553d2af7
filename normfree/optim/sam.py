"""Sharpness-aware minimization, with any optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from normfree.errors import UserError
from normfree.optim.functional import sam_perturbation


class SAM:
    r"""Gradients at the highest loss nearby, so that training seeks flat minima.

    .. math:: g_{SAM} = \nabla L(w + \epsilon), \qquad
        \epsilon = \rho\,\frac{\nabla L(w)}{\|\nabla L(w)\|_2}

    The norm is that of all parameters together. Only the gradient changes; clipping, weight decay,
    momentum and averages are the optimizer's and act at :math:`w`, where the weights are back, bit
    for bit, before it steps.

    Args:
        params: parameters of the model; frozen ones are left out.
        rho: :math:`\rho`.

    Attributes:
        params: those that move, in the order given.

    Raises:
        UserError: ``rho`` is out of range, or nothing is to be trained.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> sam = SAM(model.parameters(), rho=0.05)
        >>> x = torch.ones(8, 4)
        >>> model(x).square().mean().backward()
        >>> with sam.ascended():
        ...     model(x).square().mean().backward()
        >>> optimizer.step()

    The paper takes the first gradient in three ways (appendix A.4). From the whole batch, as above,
    a step costs twice as much. From a fifth of the *same* batch, ``model(x[: len(x) // 5])``, the
    result is as good and the step costs 20 to 40 % more; from other examples nothing is gained. And
    from each replica's own part of the batch, not averaged, which works best: with
    ``DistributedDataParallel`` do the first pass under its ``no_sync()``. One device does the same
    by accumulating, each part ascending by its own gradient:

        >>> optimizer.zero_grad()
        >>> for part in x.split(4):
        ...     grads = torch.autograd.grad(model(part).square().mean(), sam.params)
        ...     with sam.ascended(grads):
        ...         (model(part).square().mean() / 2).backward()
        >>> optimizer.step()

    Both passes must be of the same sampled function: give both the same dropout and stochastic
    depth (the same ``keys`` for this package's networks, the same seed for others), else the ascent
    goes where the second loss does not rise. Running statistics of batch normalization move in both
    passes.

    Source: equations 2 and 3 of Foret et al. (2021); appendix A.4 of the paper.

    Differs from: the code of Foret et al., whose loss includes the L2 penalty in both passes; here,
    as in their equation 1, the penalty is outside: it is the optimizer's weight decay, at
    :math:`w`. Both give the two passes the same masks.
    """

    def __init__(self, params: Iterable[Tensor], rho: float = 0.05) -> None:
        if not 0 <= rho < float("inf"):
            raise UserError(f"rho must be a length, zero or more; got {rho}")
        self.params = [p for p in params if p.requires_grad]
        self.rho = rho
        if not self.params:
            raise UserError("SAM has no parameter to move: none given, or all are frozen")

    @contextmanager
    def ascended(self, grads: Sequence[Tensor | None] | None = None) -> Iterator[None]:
        """Within, the weights are at :math:`w + ε`; after, also after an error, at :math:`w`.

        Do the second forward and backward pass within, the optimizer's step after.

        Args:
            grads: the gradients to ascend by, one for each of ``params``, None where a parameter
                has none; their scale does not matter. Without them ``.grad`` is taken, and cleared
                for the gradients to come; with them ``.grad`` is left as it is. Where they are zero
                or not finite the weights stay.

        Raises:
            UserError: not one gradient, or not as many as parameters.
        """
        if grads is None:
            grads = [p.grad for p in self.params]
            for p in self.params:
                p.grad = None
        moved, steps = self._pairs(grads)
        del grads  # the second pass needs their memory
        with torch.no_grad():
            kept = [p.clone() for p in moved]
            torch._foreach_add_(moved, sam_perturbation(steps, self.rho))
        del steps
        torch.clear_autocast_cache()  # an autocast around both passes keeps casts of the weights
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(moved, kept)
            torch.clear_autocast_cache()

    def _pairs(self, grads: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters that have a gradient, and the gradients."""
        if len(grads) != len(self.params):
            raise UserError(
                f"SAM moves {len(self.params)} parameters but got {len(grads)} gradients; "
                "take them with respect to sam.params, with None where there is none"
            )
        pairs = [(p, g) for p, g in zip(self.params, grads, strict=True) if g is not None]
        if not pairs:
            raise UserError(
                "SAM has no gradient to ascend by: call loss.backward() before sam.ascended()"
            )
        return [p for p, _ in pairs], [g for _, g in pairs]
