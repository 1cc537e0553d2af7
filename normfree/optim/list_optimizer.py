"""Base class for optimizers that update lists of parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from normfree.optim.buckets import Bucket, buckets
from normfree.optim.settings import AT_LEAST_ZERO, FRACTION, Range
from normfree.optim.shards import local


class ListOptimizer(Optimizer):
    """Base class for optimizers that update lists of parameters.

    A subclass implements :meth:`update_` and declares its settings in :attr:`ranges`. This class
    handles closures, parameters without gradients, mixed devices and dtypes, and the validation of
    settings.

    Attributes:
        ranges: setting → range of valid values in a group.
        observe: entered around the update of each list, to measure it; None measures nothing.

    Example:
        >>> class SignSGD(ListOptimizer):
        ...     ranges = {"lr": AT_LEAST_ZERO}
        ...     def update_(self, bucket, group):
        ...         steps = torch._foreach_mul(torch._foreach_sign(bucket.grads), group["lr"])
        ...         torch._foreach_sub_(bucket.params, steps)
        >>> w = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = SignSGD([w], {"lr": 0.1})
        >>> w.grad = torch.tensor([5.0, -0.01])
        >>> optimizer.step()
        >>> w.detach()
        tensor([-0.1000,  0.1000])
    """

    ranges: ClassVar[Mapping[str, Range]] = {
        "lr": AT_LEAST_ZERO,
        "momentum": FRACTION,
        "weight_decay": AT_LEAST_ZERO,
    }

    observe: Callable[[Bucket], AbstractContextManager[None]] | None = None

    @abstractmethod
    def update_(self, bucket: Bucket, group: dict[str, Any]) -> None:
        """Update parameters in place.

        Args:
            bucket: parameters of the group that have gradients and share a device and a dtype.
            group: the settings of the group.
        """

    def start_step(self) -> None:
        """Prepare for a step; called once per step, before the first update."""

    def buffers(
        self,
        bucket: Bucket,
        name: str,
        initial: Callable[[Tensor], Tensor] = torch.zeros_like,
    ) -> list[Tensor]:
        """The state tensors that the optimizer keeps for parameters between steps.

        Args:
            bucket: the parameters. The state of sharded ones is sharded, too, and the result has
                the rows of this rank.
            name: key in the state of each parameter.
            initial: creates the tensor of a parameter that has none yet.
        """
        states = [self.state[owner] for owner in bucket.owners]
        for owner, state in zip(bucket.owners, states, strict=True):
            if name not in state:
                state[name] = initial(owner)
        return [local(state[name]) for state in states]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Raises:
            UserError: a setting is out of range.
        """
        super().add_param_group(param_group)
        for setting, allowed in self.ranges.items():
            allowed.check(setting, self.param_groups[-1][setting])

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient.

        Args:
            closure: reevaluates the loss; called once, before the update.

        Returns:
            The loss that the closure returns, or None without a closure.

        Raises:
            UserError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.start_step()
        self.update_present()
        return loss

    def update_present(self) -> None:
        """Update the parameters that have a gradient."""
        for number, group in enumerate(self.param_groups):
            for bucket in buckets(group, number):
                with nullcontext() if self.observe is None else self.observe(bucket):
                    self.update_(bucket, group)
