"""RMSProp as TensorFlow has it, with which EfficientNets are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from normfree.errors import UserError


class RMSProp(Optimizer):
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

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, whose settings are checked as those of the first ones."""
        super().add_param_group(param_group)
        _check(self.param_groups[-1])

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient.

        Args:
            closure: evaluates the loss anew, once, before the update.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update_(parameter, self.state[parameter], group)
        return loss


def _update_(w: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
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


def _check(group: dict[str, Any]) -> None:
    """Say early what no training could use."""
    for setting in ("lr", "momentum", "weight_decay", "eps"):
        if not group[setting] >= 0:
            raise UserError(f"{setting} must not be negative; got {group[setting]}")
    if not 0 <= group["decay"] < 1:
        raise UserError(f"decay must be at least 0 and below 1; got {group['decay']}")
