"""Gradient clipping for any optimizer: AGC by unit or by layer, or by global norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from normfree.errors import unknown_name
from normfree.optim.buckets import Bucket, buckets
from normfree.optim.clip_record import ClipRecord
from normfree.optim.core import agc
from normfree.optim.settings import POSITIVE_OR_NONE
from normfree.optim.shards import is_sharded, local, total_norm, whole_scales
from normfree.schema import Field, record

#: Parameter groups, as in optimizers or from :func:`~normfree.optim.param_groups`.
Groups: TypeAlias = Sequence[Mapping[str, Any]]
Clip = Literal["unit", "layer", "global"]


@record
class AGC:
    r"""Adaptive gradient clipping: no unit's gradient exceeds a fraction of the unit's norm.

    .. math:: g_i \to \lambda\,\frac{\|w_i\|^\star}{\|g_i\|}\, g_i
        \quad\text{where } \|g_i\| > \lambda\|w_i\|^\star, \qquad
        \|w_i\|^\star = \max(\|w_i\|, \varepsilon)

    Args:
        clipping: default :math:`\lambda`, for groups without ``clipping``.
        eps: :math:`\varepsilon`, the lower bound on a parameter's norm.
        unitwise: one norm per unit; else one per parameter.

    Raises:
        UserError: a setting is out of range.

    Example:
        >>> from normfree.optim import param_groups
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(param_groups(model, classifier="1"), lr=1e-3)
        >>> clip = AGC(clipping=0.01)
        >>> model(torch.ones(1, 4)).sum().backward()
        >>> clipped = clip.clip_(optimizer.param_groups)
        >>> optimizer.step()
        >>> sorted(clipped.by_name()), clipped.total_units
        (['0.bias', '0.weight', '1.bias'], 5)

    Source: section 4 of the paper, equation 3.
    """

    clipping: float = Field(default=0.01, gt=0)
    eps: float = Field(default=1e-3, gt=0)
    unitwise: bool = True

    @torch.no_grad()
    def clip_(self, groups: Groups, *, backend: str = "foreach") -> ClipRecord:
        """Clip gradients in place; call it once, before each optimizer step.

        Args:
            groups: parameter groups. A group's ``clipping`` takes precedence over the default, and
                None disables clipping for it. A group's ``eps`` is ignored, because it belongs to
                the optimizer: Adam's 1e-8 would keep parameters that are zero from moving.
            backend: how lists are processed; see :mod:`normfree.optim.core`.

        Returns:
            The scales applied to each parameter's gradient.
        """
        clipped = ClipRecord()
        for number, group in enumerate(groups):
            threshold = group.get("clipping", self.clipping)
            POSITIVE_OR_NONE.check("clipping", threshold)
            if threshold is None:
                continue
            for bucket in buckets(group, number):
                scales = self._scales(bucket, threshold, backend)
                torch._foreach_mul_(bucket.grads, scales)
                clipped.add_bucket(bucket, scales, unitwise=self.unitwise)
        return clipped

    def _scales(self, bucket: Bucket, threshold: float, backend: str) -> list[Tensor]:
        own, others = bucket.split(unitwise=self.unitwise)
        scales = agc(
            own.params,
            own.grads,
            clipping=threshold,
            eps=self.eps,
            unitwise=self.unitwise,
            backend=backend,
        )
        if not others.names:
            return scales
        by_name = dict(zip(own.names, scales, strict=True))
        found = whole_scales(*others[1:], clipping=threshold, eps=self.eps)
        by_name |= zip(others.names, found, strict=True)
        return [by_name[name] for name in bucket.names]


@record
class GlobalNorm:
    r"""Gradient clipping by the norm of all gradients together.

    .. math:: G \to \lambda\,\frac{G}{\|G\|} \quad\text{where } \|G\| > \lambda

    Args:
        max_norm: :math:`\lambda`.

    Raises:
        UserError: a setting is out of range.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> w.grad = torch.tensor([3.0, 4.0])
        >>> GlobalNorm(max_norm=1.0).clip_([{"params": [w]}]).by_name()
        {'all parameters': tensor(0.2000)}
        >>> w.grad
        tensor([0.6000, 0.8000])

    Source: section 4 of the paper, equation 2; ``torch.nn.utils.clip_grad_norm_``.
    """

    max_norm: float = Field(default=1.0, gt=0)

    @torch.no_grad()
    def clip_(self, groups: Groups) -> ClipRecord:
        """Clip gradients in place; call it once, before each optimizer step.

        Args:
            groups: parameter groups, clipped together; their ``clipping`` is ignored.

        Returns:
            One scale, named ``"all parameters"``.
        """
        params = [param for group in groups for param in group["params"]]
        if any(map(is_sharded, params)):
            grads = [param.grad for param in params if param.grad is not None]
            norm = total_norm(grads)
            factor = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)  # as PyTorch does
            torch._foreach_mul_(list(map(local, grads)), factor)
        else:
            norm = torch.nn.utils.clip_grad_norm_(params, self.max_norm)
        scale = torch.where(norm > self.max_norm, self.max_norm / norm, 1.0)
        return ClipRecord(["all parameters"], [scale])


Clipping: TypeAlias = AGC | GlobalNorm


def clip_grad_agc_(
    parameters: Tensor | Iterable[Tensor] | Iterable[Mapping[str, Any]],
    clipping: float = 0.01,
    eps: float = 1e-3,
    *,
    unitwise: bool = True,
) -> Int[Tensor, ""]:
    """Clip the gradients of parameters in place with :class:`AGC`.

    Call it once per optimizer step, before ``optimizer.step``: after the backward pass of the last
    micro-batch, after averaging gradients over ranks, and after ``scaler.unscale_``.

    Args:
        parameters: a parameter, several parameters, or parameter groups; see :meth:`AGC.clip_`.
        clipping: default λ, for groups without ``clipping``.
        eps: lower bound on a parameter's norm.
        unitwise: one norm per unit; else one per parameter.

    Returns:
        The number of clipped units, on the device, which avoids synchronization.

    Raises:
        UserError: a setting is out of range.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2, 3))
        >>> w.grad = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.001]])
        >>> clip_grad_agc_(w, clipping=0.01)
        tensor(1)
        >>> w.grad
        tensor([[0.0100, 0.0100, 0.0100],
                [0.0000, 0.0000, 0.0010]])

    Source: section 4 of the paper, equation 3.
    """
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    single = [entry for entry in given if isinstance(entry, Tensor)]
    groups = [{"params": single}, *(entry for entry in given if not isinstance(entry, Tensor))]
    clip = AGC(clipping=clipping, eps=eps, unitwise=unitwise)
    return clip.clip_(groups).clipped_units


def clip_gradients_(
    groups: Iterable[Mapping[str, Any]],
    clip: Clip = "unit",
    clipping: float = 0.01,
    eps: float = 1e-3,
) -> tuple[Int[Tensor, ""], int]:
    r"""Clip the gradients of parameter groups in place, before the optimizer's step.

    ============ ==================================================================
    ``"unit"``   :class:`AGC`, one norm per unit (equation 3 of the paper)
    ``"layer"``  :class:`AGC`, one norm per parameter
    ``"global"`` :class:`GlobalNorm`, all parameters together (equation 2)
    ============ ==================================================================

    Args:
        groups: parameter groups, as in optimizers or from :func:`param_groups`.
        clip: the kind of clipping.
        clipping: :math:`\lambda`. For AGC, a group's ``clipping`` takes precedence; the global norm
            covers all groups.
        eps: lower bound on a parameter's norm, for AGC.

    Returns:
        The number of clipped units, on the device, which avoids synchronization, and the number of
        units eligible for clipping, which is one for the global norm.

    Raises:
        UserError: the kind is unknown, or a setting is out of range.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2, 2))
        >>> w.grad = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
        >>> clip_gradients_([{"params": [w]}], "global", clipping=1.0)
        (tensor(1), 1)
        >>> w.grad
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
        >>> clip_gradients_([{"params": [w]}], "unit", clipping=0.01)
        (tensor(1), 2)

    Source: section 4 of the paper.
    """
    kinds: dict[str, Clipping] = {
        "unit": AGC(clipping=clipping, eps=eps),
        "layer": AGC(clipping=clipping, eps=eps, unitwise=False),
        "global": GlobalNorm(max_norm=clipping),
    }
    if clip not in kinds:
        raise unknown_name("kind of clipping", clip, get_args(Clip))
    clipped = kinds[clip].clip_(list(groups))
    return clipped.clipped_units, clipped.total_units
