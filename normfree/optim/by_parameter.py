"""What optimizers share that update one parameter after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from normfree.errors import UserError


class ByParameter(Optimizer):
    """An optimizer that says how one parameter is updated, and which settings make no sense."""

    @abstractmethod
    def update_(self, w: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move a parameter that has a gradient.

        Args:
            w: changed in place.
            state: what is kept of the parameter between steps; empty before the first.
            group: its settings.
        """

    def check(self, group: dict[str, Any]) -> None:
        """Say early what no training could use.

        Raises:
            UserError: a setting that is out of range.
        """
        for setting in ("lr", "momentum", "weight_decay"):
            if not group[setting] >= 0:
                raise UserError(f"{setting} must not be negative; got {group[setting]}")

    def finish(self) -> None:
        """What a step does once every parameter is updated."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, whose settings are checked as those of the first ones."""
        super().add_param_group(param_group)
        self.check(self.param_groups[-1])

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
                    self.update_(parameter, self.state[parameter], group)
        self.finish()
        return loss
