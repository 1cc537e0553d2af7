"""TensorFlow's RMSProp, the optimizer used to train EfficientNets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from normfree.optim.buckets import Bucket
from normfree.optim.list_optimizer import ListOptimizer
from normfree.optim.settings import AT_LEAST_ZERO, FRACTION


class RMSProp(ListOptimizer):
    r"""RMSProp as in TensorFlow: momentum on gradients divided by their root mean square.

    For each parameter :math:`w` with gradient :math:`g`, starting at :math:`s = 1, v = 0`:

    .. math::
        g &\leftarrow g + \omega w \\
        s &\leftarrow \rho s + (1 - \rho)\,g^2 \\
        v &\leftarrow \mu v + \eta\,\frac{g}{\sqrt{s + \varepsilon}} \\
        w &\leftarrow w - v

    Args:
        params: parameters or parameter groups, for example from :func:`param_groups`; their
            ``clipping`` is ignored. Each setting below can be overridden per group.
        lr: learning rate :math:`\eta`.
        decay: :math:`\rho`, the decay of the mean square.
        momentum: :math:`\mu`.
        eps: :math:`\varepsilon`, added inside the square root.
        weight_decay: :math:`\omega`, added to the gradient (L2, not decoupled).

    Raises:
        UserError: a setting is out of range.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = RMSProp([w], lr=0.1, eps=0.0)
        >>> w.grad = torch.tensor([1.0, -100.0])
        >>> optimizer.step()
        >>> w.detach()
        tensor([-0.1000,  0.3161])

    Source: Tan & Le (2019) for the defaults; TensorFlow's ``RMSPropOptimizer``.

    Differs from: ``torch.optim.RMSprop`` in three ways. Its mean square starts at zero, so the
    first step is :math:`1/\sqrt{1 - \rho}` times as long as later ones. It adds ε outside the
    root. Its momentum accumulates steps before scaling by the learning rate, so changing the rate
    also rescales past steps.
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
        """Apply weight decay, accumulate squares and momentum, and update the weights."""
        w, grads = bucket.params, bucket.grads
        squares = self.buffers(bucket, "mean_square", torch.ones_like)
        velocities = self.buffers(bucket, "momentum_buffer")
        g = torch._foreach_add(grads, torch._foreach_mul(w, group["weight_decay"]))
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, g, g, value=1 - group["decay"])
        roots = torch._foreach_sqrt(torch._foreach_add(squares, group["eps"]))
        torch._foreach_mul_(velocities, group["momentum"])
        steps = torch._foreach_div(torch._foreach_mul(g, group["lr"]), roots)
        torch._foreach_add_(velocities, steps)
        torch._foreach_sub_(w, velocities)
