"""The parameters of groups, sorted into lists that one call can process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from normfree.errors import UserError


class Bucket(NamedTuple):
    """Parameters of one group that have gradients, on one device and of one dtype.

    Attributes:
        names: of the parameters: the group's ``param_names``, else ``"group.place"``, such as
            ``"0.3"``.
        params: the parameters.
        grads: their gradients.
    """

    names: list[str]
    params: list[Tensor]
    grads: list[Tensor]


def buckets(group: Mapping[str, Any], number: int = 0) -> Iterator[Bucket]:
    """Sort a group's parameters; those without a gradient are left out.

    Args:
        group: with ``params``, as optimizers have them.
        number: of the group, to name parameters that have no name.

    Raises:
        UserError: a gradient is sparse.

    Example:
        >>> import torch
        >>> a, b, idle = (torch.zeros(2, dtype=d) for d in (torch.float32, torch.float64, None))
        >>> a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
        >>> [bucket.names for bucket in buckets({"params": [a, b, idle]})]
        [['0.0'], ['0.1']]
    """
    params = group["params"]
    names: Iterable[str] = group.get("param_names") or (
        f"{number}.{place}" for place in range(len(params))
    )
    found: dict[object, Bucket] = {}
    for name, param in zip(names, params, strict=True):
        grad = param.grad
        if grad is None:
            continue
        if grad.is_sparse:
            raise UserError(
                f"parameter {name} has a sparse gradient, which cannot be clipped or averaged "
                "here; make it dense, as nn.Embedding(…, sparse=False) does"
            )
        kind = (param.device, param.dtype)
        if kind not in found:
            found[kind] = Bucket([], [], [])
        bucket = found[kind]
        bucket.names.append(name)
        bucket.params.append(param)
        bucket.grads.append(grad)
    yield from found.values()
