"""Muon for short runs: orthogonalized momentum for weights, and Adam for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from normfree.errors import UserError
from normfree.optim.buckets import Bucket
from normfree.optim.functional import has_units
from normfree.optim.list_optimizer import ListOptimizer
from normfree.optim.settings import AT_LEAST_ZERO, FRACTION, POSITIVE
from normfree.optim.shards import is_sharded

#: Coefficients of the Newton-Schulz iteration: singular values end between 0.7 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalized(x: Float[Tensor, "*n r c"], steps: int = 5) -> Float[Tensor, "*n r c"]:
    r"""The nearest matrix whose singular values are one, approximately.

    .. math:: X \leftarrow aX + (bA + cA^2)X, \qquad A = XX^\top, \qquad X_0 = x / \|x\|_F

    Args:
        x: matrices.
        steps: iterations; after five, singular values above 1/400 of the norm are near one.

    Example:
        >>> singular = torch.linalg.svdvals(orthogonalized(torch.tensor([[4.0, 0.0], [0.0, -1.0]])))
        >>> bool(((singular - 1).abs() < 0.35).all())
        True

    Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers".
    """
    wide = x.mT if x.shape[-2] > x.shape[-1] else x
    wide = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=1e-7)
    gram = wide @ wide.mT
    if wide.shape[-1] > 3 * wide.shape[-2]:  # then the iteration is shorter on the square alone
        wide = _polynomial(gram, steps) @ wide
    else:
        for step in range(steps):
            gram = wide @ wide.mT if step else gram
            wide = _factor(gram) @ wide
    return wide.mT if x.shape[-2] > x.shape[-1] else wide


def _factor(gram: Float[Tensor, "*n r r"]) -> Float[Tensor, "*n r r"]:
    """What an iteration multiplies by: aI + bA + cA²."""
    a, b, c = COEFFICIENTS
    factor = b * gram + c * gram @ gram
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _polynomial(gram: Float[Tensor, "*n r r"], steps: int) -> Float[Tensor, "*n r r"]:
    """The product of all factors; they are polynomials of one matrix, so that they commute."""
    product = factor = _factor(gram)
    for _ in range(steps - 1):
        gram = factor @ factor @ gram
        factor = _factor(gram)
        product = factor @ product
    return product


class Muon(ListOptimizer):
    r"""Orthogonalized momentum for weights, and Adam for gains, biases and the classifier.

    For the weight :math:`w` of a convolution or linear layer with r units of c inputs, its gradient
    :math:`g`, and :math:`O` as in :func:`orthogonalized`:

    .. math::
        v &\leftarrow \mu v + g \\
        w &\leftarrow (1 - \eta\,\omega)\,w - \eta\,\sqrt{\max(1, r/c)}\;O(g + \mu v)

    The step of a unit has length :math:`\eta`, as units have length one at the start. So a step
    moves every unit by the same share of its norm, which AGC only limits. Scalars and vectors, and
    groups with ``orthogonal=False``, take Adam's steps at the rate :math:`\rho\,\eta`.

    Args:
        params: parameters or parameter groups, for example from :func:`param_groups`; their
            ``clipping`` is ignored. Each setting below can be overridden per group.
        lr: learning rate :math:`\eta`: the share of its norm by which a unit moves.
        momentum: :math:`\mu`.
        weight_decay: :math:`\omega`, decoupled from the gradient.
        orthogonal: whether weights are orthogonalized; else Adam moves them, too.
        adam_ratio: :math:`\rho`.
        betas: decays of Adam's first and second moment.
        eps: added to the root of Adam's second moment.

    Raises:
        UserError: a setting is out of range, or a weight is sharded: its matrix must be whole.

    Example:
        >>> w = torch.nn.Parameter(torch.eye(2))
        >>> optimizer = Muon([w], lr=0.1)
        >>> w.grad = torch.tensor([[0.0, 0.0], [0.0, 1000.0]])
        >>> optimizer.step()
        >>> bool(0.87 < w[1, 1] < 0.94)  # a tenth of its norm, however large the gradient is
        True

    Source: Jordan et al. (2024); not in the paper.

    Differs from: ``torch.optim.Muon``, which takes matrices only and leaves the other parameters to
    a second optimizer. A filter of a convolution is one row here, also in grouped convolutions.
    """

    ranges: ClassVar = {
        **ListOptimizer.ranges,
        "adam_ratio": POSITIVE,
        "eps": AT_LEAST_ZERO,
    }

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.03,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        orthogonal: bool = True,
        adam_ratio: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "orthogonal": orthogonal,
            "adam_ratio": adam_ratio,
            "betas": betas,
            "eps": eps,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Raises:
            UserError: a setting is out of range.
        """
        super().add_param_group(param_group)
        for beta in self.param_groups[-1]["betas"]:
            FRACTION.check("betas", beta)

    def update_(self, bucket: Bucket, group: dict[str, Any]) -> None:
        """Orthogonalize what is a matrix, and let Adam move the rest."""
        matrices = [self._is_matrix(owner, group) for owner in bucket.owners]
        for chosen, move in ((matrices, self._muon), ([not m for m in matrices], self._adam)):
            if any(chosen):
                move(bucket.only(chosen), group)

    def kept(self, param: Tensor, group: dict[str, Any]) -> frozenset[str]:
        """The names of what is kept for a parameter of a group between steps."""
        matrix = self._is_matrix(param, group)
        return frozenset({"momentum_buffer"} if matrix else {"mean", "mean_square", "step"})

    def _is_matrix(self, param: Tensor, group: dict[str, Any]) -> bool:
        return group["orthogonal"] and has_units(param.shape)

    def _muon(self, bucket: Bucket, group: dict[str, Any]) -> None:
        for name, owner in zip(bucket.names, bucket.owners, strict=True):
            if is_sharded(owner):
                raise UserError(
                    f"Muon needs whole weights, and each rank holds a part of {name}; "
                    "choose --parallel ddp, or another --optimizer"
                )
        momentum, lr = group["momentum"], group["lr"]
        velocities = self.buffers(bucket, "momentum_buffer")
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, bucket.grads)
        directions = torch._foreach_add(bucket.grads, velocities, alpha=momentum)
        if group["weight_decay"]:
            torch._foreach_mul_(bucket.params, 1 - lr * group["weight_decay"])
        steps = _orthogonal_steps(directions)
        torch._foreach_add_(bucket.params, steps, alpha=-lr)

    def _adam(self, bucket: Bucket, group: dict[str, Any]) -> None:
        rate, (beta1, beta2) = group["lr"] * group["adam_ratio"], group["betas"]
        means = self.buffers(bucket, "mean")
        squares = self.buffers(bucket, "mean_square")
        counts = self.buffers(bucket, "step", lambda w: torch.zeros((), device=w.device))
        torch._foreach_add_(counts, 1)
        torch._foreach_lerp_(means, bucket.grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, bucket.grads, bucket.grads, value=1 - beta2)
        if group["weight_decay"]:
            torch._foreach_mul_(bucket.params, 1 - rate * group["weight_decay"])
        roots = torch._foreach_div(squares, _unbiased(beta2, counts))
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_mul_(roots, _unbiased(beta1, counts))
        torch._foreach_addcdiv_(bucket.params, means, roots, value=-rate)


def _unbiased(beta: float, counts: Sequence[Tensor]) -> list[Tensor]:
    """What a mean that began at zero is divided by: 1 - βᵗ."""
    missing = torch._foreach_pow(beta, list(counts))
    torch._foreach_neg_(missing)
    torch._foreach_add_(missing, 1)
    return list(missing)


def _orthogonal_steps(directions: Sequence[Tensor]) -> list[Tensor]:
    """The steps of weights at a rate of one; matrices of one shape are computed together."""
    shapes: dict[tuple[int, int], list[int]] = {}
    matrices = [direction.flatten(1) for direction in directions]
    for place, matrix in enumerate(matrices):
        shapes.setdefault((matrix.shape[0], matrix.shape[1]), []).append(place)
    steps = list(matrices)
    for (units, inputs), where in shapes.items():
        stacked = orthogonalized(torch.stack([matrices[place] for place in where]))
        stacked *= max(1.0, units / inputs) ** 0.5
        for place, step in zip(where, stacked.unbind(), strict=True):
            steps[place] = step
    return [step.view(like.shape) for step, like in zip(steps, directions, strict=True)]
