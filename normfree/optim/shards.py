"""Parameters of which each rank holds some rows: their local tensors, and norms over all rows.

Fully sharded data parallelism (``torch.distributed.fsdp.fully_shard``) leaves to each rank some
output units of a parameter, whole ones, as a ``DTensor``. What is computed by unit or by element
needs no other rank. The norm of a whole parameter does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from normfree.optim.functional import has_units, scale_from_norms


def is_sharded(tensor: Tensor) -> bool:
    """Whether this rank holds a part of the tensor only.

    >>> is_sharded(torch.zeros(2))
    False
    """
    return hasattr(tensor, "device_mesh")  # without importing torch.distributed


def local(tensor: Tensor) -> Tensor:
    """The rows of this rank, in the same memory; the tensor itself if it is not sharded.

    >>> x = torch.zeros(2)
    >>> local(x) is x
    True
    """
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():  # then it is no copy and has no history
        sharded: Any = tensor
        rows: Tensor = sharded.to_local()
        return rows


def whole_norms(
    tensors: Sequence[Float[Tensor, "..."]], owners: Sequence[Tensor]
) -> Float[Tensor, " k"]:
    r"""The L2 norm of each of k tensors, over the rows of all ranks.

    .. math:: \|x\| = \sqrt{\sum_r \|x_r\|^2}

    Args:
        tensors: the rows of this rank.
        owners: the parameters whose rows, or whose gradient's rows, these are. On all ranks they
            must be the same, in the same order.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]])
        >>> whole_norms([x, 2 * x], [x, x])
        tensor([ 5., 10.])
    """
    norms = torch.stack(torch._foreach_norm(list(tensors)))
    parts = [place for place, owner in enumerate(owners) if is_sharded(owner)]
    if parts:
        squares = norms[parts].double().square()
        _add_up(squares, owners[parts[0]])
        norms = norms.index_copy(
            0, torch.tensor(parts, device=norms.device), squares.sqrt().to(norms.dtype)
        )
    return norms


def total_norm(tensors: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, ""]:
    """The L2 norm of all tensors together; of sharded ones, over all ranks.

    >>> total_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
    tensor(5.)
    """
    if not any(map(is_sharded, tensors)):
        return torch.nn.utils.get_total_norm(tensors)
    return torch.linalg.vector_norm(whole_norms(list(map(local, tensors)), tensors))


def spans(owner: Tensor, *, unitwise: bool) -> bool:
    """Whether a parameter is sharded and has one norm for the rows of all ranks.

    Args:
        owner: the parameter.
        unitwise: whether rows have norms of their own, where there are such.
    """
    return is_sharded(owner) and not (unitwise and has_units(owner.shape))


def whole_scales(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    owners: Sequence[Tensor],
    *,
    clipping: float,
    eps: float,
) -> list[Float[Tensor, ""]]:
    """The scales of adaptive gradient clipping with one norm for each whole parameter.

    Args:
        params: the rows of this rank.
        grads: their gradients.
        owners: the parameters.
        clipping: λ.
        eps: lower bound on a parameter's norm.

    >>> w, g = torch.ones(2, 2), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    >>> whole_scales([w], [g], [w], clipping=0.1, eps=1e-3)
    [tensor(0.0400)]
    """
    norms, grad_norms = whole_norms([*params, *grads], [*owners, *owners]).chunk(2)
    return list(scale_from_norms(grad_norms, norms, clipping, eps).unbind())


def counts(owner: Tensor, *, unitwise: bool) -> bool:
    """Whether this rank records the scales of a parameter, which the ranks count together.

    It does not if it has no row. Of a scale for the rows of all ranks, the first one does.

    >>> counts(torch.zeros(2), unitwise=True)
    True
    """
    if not is_sharded(owner):
        return True
    if spans(owner, unitwise=unitwise):
        sharded: Any = owner
        return bool(sharded.device_mesh.get_local_rank(sharded.device_mesh.ndim - 1) == 0)
    return local(owner).numel() > 0


def _add_up(values: Tensor, sharded: Any) -> None:
    """Sum over the ranks that hold the other rows, in place."""
    import torch.distributed as dist

    mesh = sharded.device_mesh
    dist.all_reduce(values, group=mesh.get_group(mesh.ndim - 1))
