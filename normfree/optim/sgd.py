"""The paper's optimizer: AGC, weight decay, Nesterov momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor

from normfree.optim.buckets import Bucket
from normfree.optim.clip_record import ClipRecord
from normfree.optim.core import find_backend
from normfree.optim.list_optimizer import ListOptimizer
from normfree.optim.settings import POSITIVE, POSITIVE_OR_NONE


class AGCSGD(ListOptimizer):
    r"""Stochastic gradient descent with adaptive gradient clipping.

    For each parameter :math:`w` with gradient :math:`g`, in this order:

    .. math::
        g &\leftarrow \mathrm{AGC}(g, w; \lambda, \varepsilon) \\
        g &\leftarrow g + \omega w \\
        v &\leftarrow \mu v + g \\
        w &\leftarrow w - \eta\,(g + \mu v) \quad\text{(Nesterov), or } w - \eta v

    Args:
        params: parameters, or groups such as :func:`param_groups` makes. Each setting below but
            the last may differ by group.
        lr: learning rate :math:`\eta`. Write ``group["lr"]`` or use any scheduler of torch.
        momentum: :math:`\mu`.
        nesterov: Nesterov's momentum rather than the heavy ball's.
        weight_decay: :math:`\omega`, added to the clipped gradient (L2, not decoupled).
        clipping: :math:`\lambda`; None does not clip.
        eps: :math:`\varepsilon`, the floor of a parameter's norm.
        unitwise: AGC with one norm per unit; else one per parameter.
        backend: how lists are processed, see :mod:`normfree.optim.core`. It changes no result.

    Attributes:
        clip_record: the scales of the last step by parameter name, on the parameters' device; a
            hook (``register_step_post_hook``) can read it after every step.
        clipped_units: how many units the last step clipped, on the parameters' device.
        total_units: how many units were eligible for clipping.

    Raises:
        UserError: a setting that is out of range.

    Example:
        >>> import torch
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

    ranges: ClassVar = {
        **ListOptimizer.ranges,
        "clipping": POSITIVE_OR_NONE,
        "eps": POSITIVE,
    }

    clip_record: ClipRecord
    backend = "foreach"

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
        backend: str = "foreach",
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
        """How many units the last step clipped."""
        return self.clip_record.clipped_units

    @property
    def total_units(self) -> int:
        """How many units were eligible for clipping."""
        return self.clip_record.total_units

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle keeps."""
        return {**super().__getstate__(), "backend": self.backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come back from a copy, a pickle or a state dict; nothing has been clipped since."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("unitwise", True)  # saved before there was a choice
        self.start_step()

    def start_step(self) -> None:
        """Begin a new record."""
        self.clip_record = ClipRecord()

    def update_(self, bucket: Bucket, group: dict[str, Any]) -> None:
        """Clip, decay, accumulate momentum, step."""
        core, (names, params, grads) = find_backend(self.backend), bucket
        scales = None
        if group["clipping"] is not None:
            scales = core.agc(
                params,
                grads,
                clipping=group["clipping"],
                eps=group["eps"],
                unitwise=group["unitwise"],
            )
            self.clip_record.add(names, scales)
        core.sgd_update(
            params,
            grads,
            self.buffers(params, "momentum_buffer") if group["momentum"] else [],
            scales=scales,
            lr=group["lr"],
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            weight_decay=group["weight_decay"],
        )
