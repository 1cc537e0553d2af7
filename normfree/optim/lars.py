"""Layer-wise adaptive rate scaling, to which the paper compares AGC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from normfree.errors import UserError
from normfree.optim.by_parameter import ByParameter
from normfree.optim.functional import lars_rate


class LARS(ByParameter):
    r"""Momentum SGD whose every layer moves by a fixed share of its norm.

    For each parameter :math:`w` with gradient :math:`g`, and :math:`\tau` the local rate of
    :func:`lars_rate`:

    .. math::
        v &\leftarrow \mu v + \eta\,\tau\,(g + \omega w), \qquad
            \tau = \frac{c\,\|w\|}{\|g\| + \omega\|w\|} \\
        w &\leftarrow w - v

    Scalars and vectors (gains and biases), and groups whose ``trust`` is None, take plain steps of
    momentum SGD: :math:`\tau = 1`.

    Args:
        params: parameters, or groups such as :func:`param_groups` makes, of which no ``clipping``
            is applied. Each setting below may differ by group.
        lr: learning rate :math:`\eta`. With ``trust=0.001`` rates are large: one or more for large
            batches.
        momentum: :math:`\mu`.
        weight_decay: :math:`\omega`, added to the gradient (L2, not decoupled).
        trust: :math:`c`, the share of its norm by which a layer moves at :math:`\eta = 1`; None
            moves all parameters plainly.

    Raises:
        UserError: a setting that is out of range.

    Example:
        >>> w = torch.nn.Parameter(torch.eye(2))
        >>> optimizer = LARS([w], lr=1.0, trust=0.1)
        >>> w.grad = torch.tensor([[0.0, 0.0], [0.0, 1000.0]])
        >>> optimizer.step()
        >>> w.detach()  # moved by a tenth of its norm √2, however large the gradient is
        tensor([[1.0000, 0.0000],
                [0.0000, 0.8586]])

    Source: algorithm 1 of You et al. (2017); section 4 of the paper.

    Differs from: You et al., who scale every parameter; leaving gains and biases out became the
    custom.
    """

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

    def update_(self, w: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Decay, scale, gather momentum, move one parameter."""
        assert w.grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(w)
        velocity, decay = state["momentum_buffer"], group["weight_decay"]
        step = (w.grad + decay * w) * group["lr"]
        if group["trust"] is not None and w.ndim > 1:
            step = step * lars_rate(w.grad, w, group["trust"], decay)
        velocity.mul_(group["momentum"]).add_(step)
        w.sub_(velocity)

    def check(self, group: dict[str, Any]) -> None:
        """Say early what no training could use."""
        super().check(group)
        if group["trust"] is not None and not group["trust"] > 0:
            raise UserError(
                f"trust must be positive, or None for plain steps; got {group['trust']}"
            )
