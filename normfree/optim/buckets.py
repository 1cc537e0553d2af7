"""Partitioning parameter groups into lists that one call can process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

from torch import Tensor

from normfree.errors import UserError
from normfree.optim.shards import local, spans


class Bucket(NamedTuple):
    """Parameters of one group that have gradients and share a device and a dtype.

    Attributes:
        names: names of the parameters: the group's ``param_names``, or else the numbers of the
            group and the parameter, such as ``"0.3"``.
        params: the parameters; of sharded ones, the rows of this rank.
        grads: their gradients, likewise.
        owners: the parameters as the group has them.
    """

    names: list[str]
    params: list[Tensor]
    grads: list[Tensor]
    owners: list[Tensor]

    def split(self, *, unitwise: bool) -> tuple[Bucket, Bucket]:
        """Those whose units are whole on this rank, and those with a norm over several ranks.

        Args:
            unitwise: whether there is one norm per unit; else one per parameter.
        """
        apart = [spans(owner, unitwise=unitwise) for owner in self.owners]
        if not any(apart):
            return self, Bucket([], [], [], [])
        return self.only([not over for over in apart]), self.only(apart)

    def only(self, chosen: Sequence[bool]) -> Bucket:
        """Some of the parameters.

        Args:
            chosen: for each, whether it is one of them.
        """
        return Bucket(
            list(compress(self.names, chosen)),
            list(compress(self.params, chosen)),
            list(compress(self.grads, chosen)),
            list(compress(self.owners, chosen)),
        )


def buckets(group: Mapping[str, Any], number: int = 0) -> Iterator[Bucket]:
    """Partition a group by device and dtype, skipping parameters without a gradient.

    Args:
        group: a parameter group as in optimizers, with the key ``params``.
        number: number of the group, used to name parameters without a name.

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
            found[kind] = Bucket([], [], [], [])
        bucket = found[kind]
        bucket.names.append(name)
        bucket.params.append(local(param))
        bucket.grads.append(local(grad))
        bucket.owners.append(param)
    yield from found.values()
