"""The paper's optimizer: AGC, weight decay, Nesterov's momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from normfree.errors import UserError
from normfree.optim.agc import count_clipped
from normfree.optim.by_parameter import ByParameter
from normfree.optim.functional import clip_scale, nesterov_momentum


class AGCSGD(ByParameter):
    r"""Stochastic gradient descent with adaptive gradient clipping.

    For each parameter :math:`w` with gradient :math:`g`, in this order:

    .. math::
        g &\leftarrow \mathrm{AGC}(g, w; \lambda, \varepsilon) \\
        g &\leftarrow g + \omega w \\
        v &\leftarrow \mu v + g \\
        w &\leftarrow w - \eta\,(g + \mu v) \quad\text{(Nesterov), or } w - \eta v

    Args:
        params: parameters, or groups such as :func:`param_groups` makes. Each setting below may
            differ by group.
        lr: learning rate :math:`\eta`. Write ``group["lr"]`` or use any scheduler of torch.
        momentum: :math:`\mu`.
        nesterov: Nesterov's momentum rather than the heavy ball's.
        weight_decay: :math:`\omega`, added to the clipped gradient (L2, not decoupled).
        clipping: :math:`\lambda`; None does not clip.
        eps: :math:`\varepsilon`, the floor of a parameter's norm.
        unitwise: AGC with a norm for each unit; else one for each whole parameter.

    Attributes:
        clipped_units: how many units the last step clipped, on the parameters' device.
        total_units: how many it might have.

    Raises:
        UserError: a setting that is out of range.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = AGCSGD(model.parameters(), lr=0.1)
        >>> model(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.clipped_units <= optimizer.total_units
        tensor(True)

    With a ``torch.amp.GradScaler``, ``scaler.step(optimizer)`` unscales before this step clips.
    With accumulated gradients it clips their sum, once.

    Source: sections 4 and 6.1 of the paper, and the authors' order of operations.
    """

    clipped_units: Int[Tensor, ""]
    total_units: int

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.1,
        *,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        clipping: float | None = 0.01,
        eps: float = 1e-3,
        unitwise: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "clipping": clipping,
            "eps": eps,
            "unitwise": unitwise,
        }
        super().__init__(params, defaults)
        self._nothing_clipped()

    def _nothing_clipped(self) -> None:
        self.scales: list[Tensor] = []
        self.clipped_units, self.total_units = torch.tensor(0), 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come back from a copy, a pickle or a state dict; nothing has been clipped since."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("unitwise", True)  # saved before there was a choice
        self._nothing_clipped()

    def update_(self, w: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Clip, decay, gather momentum, move one parameter."""
        grad = w.grad
        assert grad is not None
        if group["clipping"] is not None:
            scale = clip_scale(grad, w, group["clipping"], group["eps"], unitwise=group["unitwise"])
            grad = grad * scale
            self.scales.append(scale)
        if group["weight_decay"]:
            grad = grad + group["weight_decay"] * w
        if group["momentum"]:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(w)
            velocity = state["momentum_buffer"]
            direction, moved = nesterov_momentum(grad, velocity, group["momentum"])
            velocity.copy_(moved)
            grad = direction if group["nesterov"] else moved
        w.sub_(grad * group["lr"])

    def finish(self) -> None:
        """Count what was clipped."""
        self.clipped_units = count_clipped(self.scales)
        self.total_units = sum(scale.numel() for scale in self.scales)
        self.scales.clear()

    def check(self, group: dict[str, Any]) -> None:
        """Say early what no training could use."""
        super().check(group)
        for setting in ("clipping", "eps"):
            if group[setting] is not None and not group[setting] > 0:
                raise UserError(
                    f"{setting} must be positive, or None for clipping to switch it off; "
                    f"got {group[setting]}"
                )
