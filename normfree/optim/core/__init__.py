r"""The core of the optimizer: adaptive gradient clipping and momentum SGD on lists of tensors.

There are several backends, which give the same results:

=============== ====================================================================
``"reference"`` the equations of :mod:`normfree.optim.functional`, tensor by tensor
``"foreach"``   few operations for many tensors: ``torch._foreach_*`` on stacks
``"fused"``     a C kernel that reads each unit once, on the CPU; otherwise, foreach
=============== ====================================================================

All tensors in a call must share a device and a dtype. To add a backend, write a module with the
functions of :class:`Backend` and add it to :data:`BACKENDS`. A backend that has no better way makes
a step of the other two functions by :func:`~normfree.optim.core.lists.in_parts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from normfree.errors import unknown_name
from normfree.optim.core import foreach, fused, reference
from normfree.optim.core.lists import Lists, Settings

__all__ = ["BACKENDS", "Backend", "Lists", "Settings", "agc", "find_backend", "sgd_update"]


class Backend(Protocol):
    """The interface of a backend; :func:`agc` and :func:`sgd_update` document two functions."""

    def agc(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        *,
        clipping: float,
        eps: float,
        unitwise: bool,
    ) -> list[Tensor]:
        """Return the scales."""

    def sgd_update(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        velocities: Sequence[Tensor],
        *,
        scales: Sequence[Tensor] | None,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """Update parameters and velocities in place."""

    def step(self, lists: Lists, settings: Settings) -> list[Tensor] | None:
        """Clip, update, and average the new parameters; return the scales if it clips."""


#: Name → backend.
BACKENDS: dict[str, Backend] = {
    "reference": reference,
    "foreach": foreach,
    "fused": fused,
}


def find_backend(name: str) -> Backend:
    """Find a backend by name.

    Raises:
        UserError: the name is unknown; the message suggests the nearest one.
    """
    if name not in BACKENDS:
        raise unknown_name("optimizer backend", name, BACKENDS)
    return BACKENDS[name]


def agc(
    params: Sequence[Float[Tensor, "..."]],
    grads: Sequence[Float[Tensor, "..."]],
    *,
    clipping: float = 0.01,
    eps: float = 1e-3,
    unitwise: bool = True,
    backend: str = "foreach",
) -> list[Float[Tensor, "..."]]:
    r"""The scales of adaptive gradient clipping for the gradients of a list of parameters.

    .. math:: s_i = \min\left(1,\;
        \lambda\,\frac{\max(\|w_i\|, \varepsilon)}{\max(\|g_i\|, 10^{-6})}\right)

    Args:
        params: parameters, not modified.
        grads: gradients of the same shapes, not modified.
        clipping: :math:`\lambda`.
        eps: :math:`\varepsilon`, the lower bound on a parameter's norm.
        unitwise: one scale per unit; else one per parameter.
        backend: a name in :data:`BACKENDS`.

    Returns:
        For each parameter, the scales of its units, in (0, 1], in the shape of
        :func:`~normfree.optim.functional.unitwise_norm`. A unit is clipped if its scale is below
        one.

    Raises:
        UserError: the backend is unknown.

    Example:
        >>> import torch
        >>> w, g = torch.ones(2, 3), torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.001]])
        >>> (scale,) = agc([w], [g], clipping=0.01)
        >>> scale
        tensor([[0.0100],
                [1.0000]])

    Source: section 4 of the paper, equation 3.
    """
    return find_backend(backend).agc(params, grads, clipping=clipping, eps=eps, unitwise=unitwise)


def sgd_update(
    params: Sequence[Float[Tensor, "..."]],
    grads: Sequence[Float[Tensor, "..."]],
    velocities: Sequence[Float[Tensor, "..."]],
    *,
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    scales: Sequence[Float[Tensor, "..."]] | None = None,
    backend: str = "foreach",
) -> None:
    r"""One step of momentum SGD on a list of parameters, in place.

    .. math::
        g &\leftarrow s\,g + \omega w \\
        v &\leftarrow \mu v + g \\
        w &\leftarrow w - \eta\,(g + \mu v) \quad\text{(Nesterov), or } w - \eta v

    Args:
        params: :math:`w`, updated in place.
        grads: :math:`g`, not modified.
        velocities: :math:`v`, updated in place, initially zero. Unused if ``momentum`` is zero, and
            may then be empty.
        lr: learning rate :math:`\eta`, a float or a scalar tensor.
        momentum: :math:`\mu`.
        nesterov: whether to use Nesterov momentum instead of heavy-ball momentum.
        weight_decay: :math:`\omega`, added to the scaled gradient (L2, not decoupled).
        scales: :math:`s`, as returned by :func:`agc`; None disables scaling.
        backend: a name in :data:`BACKENDS`.

    Raises:
        UserError: the backend is unknown.

    Example:
        >>> import torch
        >>> w, v = torch.ones(2), torch.zeros(2)
        >>> sgd_update([w], [torch.ones(2)], [v], lr=0.1, momentum=0.5)
        >>> w, v
        (tensor([0.8500, 0.8500]), tensor([1., 1.]))

    Source: appendix A.1 of the paper; the authors' code for the order of operations.
    """
    find_backend(backend).sgd_update(
        params,
        grads,
        velocities,
        scales=scales,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
    )
