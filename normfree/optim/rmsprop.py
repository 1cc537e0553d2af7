"""RMSProp as TensorFlow has it, with which EfficientNets are trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from normfree.optim.buckets import Bucket
from normfree.optim.list_optimizer import ListOptimizer
from normfree.optim.settings import AT_LEAST_ZERO, FRACTION


class RMSProp(ListOptimizer):
    r"""Momentum on gradients divided by their root mean square.

    For each parameter :math:`w` with gradient :math:`g`, from :math:`s = 1` and :math:`v = 0`:

    .. math::
        g &\leftarrow g + \omega w \\
        s &\leftarrow \rho s + (1 - \rho)\,g^2 \\
        v &\leftarrow \mu v + \eta\,\frac{g}{\sqrt{s + \varepsilon}} \\
        w &\leftarrow w - v

    Args:
        params: parameters, or groups such as :func:`param_groups` makes, of which no ``clipping``
            is applied. Each setting below may differ by group.
        lr: learning rate :math:`\eta`.
        decay: :math:`\rho`, of the mean square.
        momentum: :math:`\mu`.
        eps: :math:`\varepsilon`.
        weight_decay: :math:`\omega`, added to the gradient (L2, not decoupled).

    Raises:
        UserError: a setting that is out of range.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = RMSProp([w], lr=0.1, eps=0.0)
        >>> w.grad = torch.tensor([1.0, -100.0])
        >>> optimizer.step()
        >>> w.detach()
        tensor([-0.1000,  0.3161])

    Source: Tan & Le (2019) for the defaults; TensorFlow's ``RMSPropOptimizer``.

    Differs from: ``torch.optim.RMSprop``, where the mean square starts at zero, so that the first
    steps are :math:`1/\sqrt{1 - \rho}` as long as later ones, ε is added outside the root, and the
    momentum accumulates unscaled steps, so that a change of the learning rate acts on past steps
    too.
    """

    ranges: ClassVar = {**ListOptimizer.ranges, "decay": FRACTION, "eps": AT_LEAST_ZERO}

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.01,
        *,
        decay: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "decay": decay,
            "momentum": momentum,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def update_(self, bucket: Bucket, group: dict[str, Any]) -> None:
        """Decay, accumulate squares, accumulate momentum, step."""
        w, grads = bucket.params, bucket.grads
        squares = self.buffers(w, "mean_square", torch.ones_like)
        velocities = self.buffers(w, "momentum_buffer")
        g = torch._foreach_add(grads, torch._foreach_mul(w, group["weight_decay"]))
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, g, g, value=1 - group["decay"])
        roots = torch._foreach_sqrt(torch._foreach_add(squares, group["eps"]))
        torch._foreach_mul_(velocities, group["momentum"])
        steps = torch._foreach_div(torch._foreach_mul(g, group["lr"]), roots)
        torch._foreach_add_(velocities, steps)
        torch._foreach_sub_(w, velocities)
