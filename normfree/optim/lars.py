"""Layer-wise adaptive rate scaling (LARS), an alternative to AGC that the paper compares with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from normfree.optim.buckets import Bucket
from normfree.optim.functional import lars_rate_from_norms
from normfree.optim.list_optimizer import ListOptimizer
from normfree.optim.settings import POSITIVE_OR_NONE
from normfree.optim.shards import whole_norms


class LARS(ListOptimizer):
    r"""Momentum SGD that moves each layer by a fixed fraction of its norm.

    For each parameter :math:`w` with gradient :math:`g`, and :math:`\tau` the local rate of
    :func:`lars_rate`:

    .. math::
        v &\leftarrow \mu v + \eta\,\tau\,(g + \omega w), \qquad
            \tau = \frac{c\,\|w\|}{\|g\| + \omega\|w\|} \\
        w &\leftarrow w - v

    Scalars and vectors (gains and biases), and groups with ``trust=None``, take plain momentum SGD
    steps: :math:`\tau = 1`.

    Args:
        params: parameters or parameter groups, for example from :func:`param_groups`; their
            ``clipping`` is ignored. Each setting below can be overridden per group.
        lr: learning rate :math:`\eta`. With ``trust=0.001`` it is large: one or more for large
            batches.
        momentum: :math:`\mu`.
        weight_decay: :math:`\omega`, added to the gradient (L2, not decoupled).
        trust: :math:`c`, the fraction of its norm by which a layer moves at :math:`\eta = 1`; None
            gives plain momentum SGD.

    Raises:
        UserError: a setting is out of range.

    Example:
        >>> w = torch.nn.Parameter(torch.eye(2))
        >>> optimizer = LARS([w], lr=1.0, trust=0.1)
        >>> w.grad = torch.tensor([[0.0, 0.0], [0.0, 1000.0]])
        >>> optimizer.step()
        >>> w.detach()  # moved by a tenth of its norm √2, however large the gradient is
        tensor([[1.0000, 0.0000],
                [0.0000, 0.8586]])

    Source: algorithm 1 of You et al. (2017); section 4 of the paper.

    Differs from: You et al., who scale every parameter. It is now common to exclude gains and
    biases.
    """

    ranges: ClassVar = {**ListOptimizer.ranges, "trust": POSITIVE_OR_NONE}

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.1,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float | None = 0.001,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, defaults)

    def update_(self, bucket: Bucket, group: dict[str, Any]) -> None:
        """Apply weight decay and the local rates, accumulate momentum, and update the weights."""
        _, w, g, owners = bucket
        decay, velocities = group["weight_decay"], self.buffers(bucket, "momentum_buffer")
        steps = torch._foreach_add(g, torch._foreach_mul(w, decay))
        torch._foreach_mul_(steps, group["lr"])
        layers = [i for i, x in enumerate(w) if x.ndim > 1 and group["trust"] is not None]
        if layers:
            norms, grad_norms = (
                whole_norms([tensors[i] for i in layers], [owners[i] for i in layers])
                for tensors in (w, g)
            )
            rates = lars_rate_from_norms(grad_norms, norms, group["trust"], decay)
            torch._foreach_mul_([steps[i] for i in layers], rates.unbind())
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, steps)
        torch._foreach_sub_(w, velocities)
