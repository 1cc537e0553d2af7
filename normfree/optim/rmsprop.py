"""RMSProp as TensorFlow has it, with which EfficientNets are trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from normfree.errors import UserError
from normfree.optim.by_parameter import ByParameter


class RMSProp(ByParameter):
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
    momentum gathers unscaled steps, so that a change of the learning rate acts on past ones too.
    """

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

    def update_(self, w: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Decay, gather squares, gather momentum, move one parameter."""
        assert w.grad is not None
        if not state:
            state["mean_square"] = torch.ones_like(w)
            state["momentum_buffer"] = torch.zeros_like(w)
        square, velocity = state["mean_square"], state["momentum_buffer"]
        grad = w.grad + group["weight_decay"] * w
        square.mul_(group["decay"]).addcmul_(grad, grad, value=1 - group["decay"])
        velocity.mul_(group["momentum"]).add_(group["lr"] * grad / (square + group["eps"]).sqrt())
        w.sub_(velocity)

    def check(self, group: dict[str, Any]) -> None:
        """Say early what no training could use."""
        super().check(group)
        if not group["eps"] >= 0:
            raise UserError(f"eps must not be negative; got {group['eps']}")
        if not 0 <= group["decay"] < 1:
            raise UserError(f"decay must be at least 0 and below 1; got {group['decay']}")
