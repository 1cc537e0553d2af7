"""Sharpness-aware minimization (SAM) with any optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from normfree.errors import UserError
from normfree.optim.functional import sam_perturbation
from normfree.optim.shards import local, total_norm


class SAM:
    r"""Sharpness-aware minimization: take gradients at perturbed weights to find flat minima.

    .. math:: g_{SAM} = \nabla L(w + \epsilon), \qquad
        \epsilon = \rho\,\frac{\nabla L(w)}{\|\nabla L(w)\|_2}

    The norm is taken over all parameters together. Only the gradient changes. Clipping, weight
    decay, momentum and averaging act at :math:`w`, because the weights are restored bit for bit
    before the optimizer steps.

    Args:
        params: parameters of the model; frozen ones are skipped.
        rho: :math:`\rho`.

    Attributes:
        params: the parameters that are perturbed, in the given order.

    Raises:
        UserError: ``rho`` is out of range, or there is no trainable parameter.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> sam = SAM(model.parameters(), rho=0.05)
        >>> x = torch.ones(8, 4)
        >>> model(x).square().mean().backward()
        >>> with sam.ascended():
        ...     model(x).square().mean().backward()
        >>> optimizer.step()

    The paper computes the first gradient in three ways (appendix A.4). With the whole batch, as
    above, a step costs twice as much. With a fifth of the *same* batch,
    ``model(x[: len(x) // 5])``, the result is as good and a step costs 20 to 40% more; examples
    from outside the batch give no benefit. It works best if each replica uses the gradient of its
    own micro-batch without averaging: with ``DistributedDataParallel``, run the first pass under
    ``no_sync()``. On one device, accumulate gradients, and let each micro-batch ascend along its
    own gradient:

        >>> optimizer.zero_grad()
        >>> for images in x.split(4):
        ...     grads = torch.autograd.grad(model(images).square().mean(), sam.params)
        ...     with sam.ascended(grads):
        ...         (model(images).square().mean() / 2).backward()
        >>> optimizer.step()

    Both passes must use the same dropout and stochastic depth masks: pass the same ``keys`` to the
    networks of this package, and use the same seed for others. With different masks, the first
    gradient belongs to a different function, and the ascent need not increase the second loss. The
    running statistics of batch normalization are updated in both passes.

    Source: equations 2 and 3 of Foret et al. (2021); appendix A.4 of the paper.

    Differs from: the code of Foret et al., which includes the L2 penalty in the loss of both
    passes. Here, as in their equation 1, the penalty is not part of the ascent; the optimizer's
    weight decay adds it at :math:`w`. Both implementations use the same masks in the two passes.
    """

    def __init__(self, params: Iterable[Tensor], rho: float = 0.05) -> None:
        if not 0 <= rho < float("inf"):
            raise UserError(f"rho must be at least 0 and finite; got {rho}")
        self.params = [p for p in params if p.requires_grad]
        self.rho = rho
        if not self.params:
            raise UserError("SAM has no parameter to perturb: none given, or all are frozen")

    @contextmanager
    def ascended(self, grads: Sequence[Tensor | None] | None = None) -> Iterator[None]:
        """Context in which the weights are :math:`w + ε`; they are restored on exit.

        Run the second forward and backward pass inside, and the optimizer's step after it.

        Args:
            grads: gradients that give the ascent direction, one per parameter in ``params``, or
                None for a parameter without a gradient. Their scale does not matter. By default
                ``.grad`` is used and cleared for the second pass; if ``grads`` is given, ``.grad``
                is unchanged. If their norm is zero or not finite, the weights do not move.

        Raises:
            UserError: there is no gradient, or not one entry per parameter.
        """
        if grads is None:
            grads = [p.grad for p in self.params]
            for p in self.params:
                p.grad = None
        moved, steps = self._pairs(grads)
        del grads  # free memory for the second pass
        with torch.no_grad():
            norm = total_norm(steps)
            moved, steps = list(map(local, moved)), list(map(local, steps))
            kept = [p.clone() for p in moved]
            torch._foreach_add_(moved, sam_perturbation(steps, self.rho, norm))
        del steps
        torch.clear_autocast_cache()  # an enclosing autocast caches casts of the weights
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(moved, kept)
            torch.clear_autocast_cache()

    def _pairs(self, grads: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters that have a gradient, and their gradients."""
        if len(grads) != len(self.params):
            raise UserError(
                f"SAM perturbs {len(self.params)} parameters but got {len(grads)} gradients; "
                "pass one for each of sam.params, or None for a parameter without a gradient"
            )
        pairs = [(p, g) for p, g in zip(self.params, grads, strict=True) if g is not None]
        if not pairs:
            raise UserError(
                "SAM has no gradient to ascend along: call loss.backward() before sam.ascended()"
            )
        return [p for p, _ in pairs], [g for _, g in pairs]
