"""The paper's optimizer: SGD with AGC, weight decay and Nesterov momentum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from normfree.optim.buckets import Bucket
from normfree.optim.clip_record import ClipRecord
from normfree.optim.core import Lists, Settings, find_backend
from normfree.optim.ema import EMA, Averaging
from normfree.optim.in_backward import updated_in_backward
from normfree.optim.list_optimizer import ListOptimizer
from normfree.optim.settings import POSITIVE, POSITIVE_OR_NONE
from normfree.optim.shards import whole_scales


class AGCSGD(ListOptimizer):
    r"""Stochastic gradient descent with adaptive gradient clipping.

    For each parameter :math:`w` with gradient :math:`g`, the step applies in order:

    .. math::
        g &\leftarrow \mathrm{AGC}(g, w; \lambda, \varepsilon) \\
        g &\leftarrow g + \omega w \\
        v &\leftarrow \mu v + g \\
        w &\leftarrow w - \eta\,(g + \mu v) \quad\text{(Nesterov), or } w - \eta v

    Args:
        params: parameters or parameter groups, for example from :func:`param_groups`. Each setting
            below except ``backend`` can be overridden per group.
        lr: learning rate :math:`\eta`. Set ``group["lr"]`` or use any PyTorch scheduler.
        momentum: :math:`\mu`.
        nesterov: whether to use Nesterov momentum instead of heavy-ball momentum.
        weight_decay: :math:`\omega`, added to the clipped gradient (L2, not decoupled).
        clipping: :math:`\lambda`; None disables clipping.
        eps: :math:`\varepsilon`, the lower bound on a parameter's norm.
        unitwise: whether AGC uses one norm per unit; else one per parameter.
        backend: how lists are processed; see :mod:`normfree.optim.core`. Results are the same.

    Attributes:
        clip_record: scales of the last step by parameter name, on the parameters' device; a
            hook (``register_step_post_hook``) can read it after every step.
        clipped_units: number of units clipped in the last step, on the parameters' device.
        total_units: number of units eligible for clipping.

    Raises:
        UserError: a setting is out of range.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = AGCSGD(model.parameters(), lr=0.1)
        >>> model(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.clipped_units <= optimizer.total_units
        tensor(True)

    With a ``torch.amp.GradScaler``, ``scaler.step(optimizer)`` unscales the gradients before this
    step clips them. With gradient accumulation, the step clips the accumulated gradient once.

    Source: section 4 and appendix A.1 of the paper; the authors' code for the order of operations.
    """

    ranges: ClassVar = {
        **ListOptimizer.ranges,
        "clipping": POSITIVE_OR_NONE,
        "eps": POSITIVE,
    }

    clip_record: ClipRecord
    backend = "fused"
    _averaging: Averaging | None = None
    _has_begun = False  # the step, in the backward pass

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
        backend: str = "fused",
    ) -> None:
        find_backend(backend)
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
        self.backend = backend
        self.start_step()

    @property
    def clipped_units(self) -> Int[Tensor, ""]:
        """Number of units clipped in the last step."""
        return self.clip_record.clipped_units

    @property
    def total_units(self) -> int:
        """Number of units eligible for clipping in the last step."""
        return self.clip_record.total_units

    def __getstate__(self) -> dict[str, Any]:
        """The state for copying and pickling, which includes the backend."""
        return {**super().__getstate__(), "backend": self.backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, a pickle or a state dict, with an empty clip record."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("unitwise", True)  # states saved before the setting existed
        self.start_step()

    def step_and_average(self, ema: EMA, step: int) -> None:
        """The same as ``step()`` and then ``ema.update(step)``; one pass with the fused backend.

        Args:
            ema: an average of a model whose parameters these are, or some of them.
            step: number of the step, from zero, on which the decay of the average depends.

        Example:
            >>> import torch
            >>> from normfree.optim import EMA
            >>> model = torch.nn.Linear(4, 2)
            >>> optimizer, ema = AGCSGD(model.parameters()), EMA(model)
            >>> model(torch.ones(1, 4)).sum().backward()
            >>> optimizer.step_and_average(ema, step=0)
        """
        self._averaging = ema.begin(step)
        try:
            self.step()
            self._averaging.finish()
        finally:
            self._averaging = None

    @contextmanager
    def step_in_backward(self, ema: EMA | None = None, step: int = 0) -> Iterator[None]:
        """Take the step while the backward pass runs inside, and drop the gradients on the way.

        The same bits as :meth:`step_and_average` and ``zero_grad()`` after the backward pass, in
        less memory: no more than 16 MB of gradients are held, or one parameter's. AGC allows this,
        because a unit is clipped by its own norms. There must be one backward pass, without a
        ``GradScaler``, and no gradients from before.

        If there is an error inside, parameters whose gradients were complete may have been updated.

        Args:
            ema: an average of a model whose parameters these are, or some of them; None for none.
            step: number of the step, from zero, on which the decay of the average depends.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(4, 2)
            >>> optimizer = AGCSGD(model.parameters())
            >>> with optimizer.step_in_backward():
            ...     model(torch.ones(1, 4)).sum().backward()
            >>> model.weight.grad is None
            True
        """
        params = [param for group in self.param_groups for param in group["params"]]
        self.start_step()
        self._averaging = None if ema is None else ema.begin(step)
        try:
            with updated_in_backward(params, self.update_present):
                yield
            self._has_begun = True
            self.step()
            if self._averaging is not None:
                self._averaging.finish()
        finally:
            self._averaging, self._has_begun = None, False
        self.zero_grad()

    def start_step(self) -> None:
        """Start a new clip record."""
        if not self._has_begun:
            self.clip_record = ClipRecord()

    def update_(self, bucket: Bucket, group: dict[str, Any]) -> None:
        """Clip, decay, accumulate momentum, and update the weights and their averages."""
        clipping, unitwise = group["clipping"], group["unitwise"]
        if clipping is None:
            self._step(bucket, group, None)
            return
        own, others = bucket.split(unitwise=unitwise)
        scales = self._step(own, group, clipping)
        assert scales is not None
        self.clip_record.add_bucket(own, scales, unitwise=unitwise)
        if others.names:
            scales = whole_scales(*others[1:], clipping=clipping, eps=group["eps"])
            clipped = torch._foreach_mul(others.grads, scales)
            self._step(others._replace(grads=list(clipped)), group, None)
            self.clip_record.add_bucket(others, scales, unitwise=unitwise)

    def _step(
        self, bucket: Bucket, group: dict[str, Any], clipping: float | None
    ) -> list[Tensor] | None:
        """Update the weights by the backend; returns the scales if it clips."""
        averaging = self._averaging
        return find_backend(self.backend).step(
            Lists(
                bucket.params,
                bucket.grads,
                self.buffers(bucket, "momentum_buffer") if group["momentum"] else [],
                [] if averaging is None else averaging.take(bucket.owners),
            ),
            Settings(
                lr=group["lr"],
                momentum=group["momentum"],
                nesterov=group["nesterov"],
                weight_decay=group["weight_decay"],
                clipping=clipping,
                eps=group["eps"],
                unitwise=group["unitwise"],
                average_weight=0.0 if averaging is None else averaging.weight,
            ),
        )
