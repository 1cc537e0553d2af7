"""Data parallelism: each rank holds all weights (``torch.nn.parallel.DistributedDataParallel``)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from normfree.optim import SAM
from normfree.optim.clip_record import ClipRecord
from normfree.train.engine import Engine, add_up_, gradient
from normfree.train.runtime import Runtime

if TYPE_CHECKING:
    from torch._C._distributed_c10d import GradBucket
    from torch.futures import Future

    from normfree.train.gradient import SummedLoss


class Replicated(Engine):
    """Each rank holds all weights; gradients are added while the last backward pass goes on.

    Weights, momentum and averages stay the same bits on all ranks, because all ranks get the same
    bits from a sum and then compute the same.

    Args:
        runtime: the ranks.
        average_statistics: whether ranks see other statistics of a batch, and so move their running
            ones apart.

    Differs from: ``DistributedDataParallel`` used plainly, which averages gradients and copies the
        running statistics of rank 0.
    """

    def __init__(self, runtime: Runtime, *, average_statistics: bool = True) -> None:
        super().__init__(runtime)
        self.average_statistics = average_statistics
        self._ddp: nn.parallel.DistributedDataParallel | None = None

    def parallel(self, loss_of: SummedLoss, model: nn.Module) -> SummedLoss:
        """The loss through ``DistributedDataParallel``."""
        self._ddp = nn.parallel.DistributedDataParallel(
            _Loss(model, loss_of), gradient_as_bucket_view=True, **_buffers_apart()
        )
        self._ddp.register_comm_hook(None, lambda state, bucket: _add_up(bucket))
        return self._ddp

    @contextmanager
    def descending(self, *, last: bool) -> Iterator[None]:
        """Gradients stay on this rank until the last micro-batch."""
        if last:
            yield
        else:
            with self._alone():
                yield

    @contextmanager
    def ascended(self, sam: SAM, losses: Iterable[Tensor], *, together: bool) -> Iterator[None]:
        """Along the sum of the ranks' gradients, or unsynchronized."""
        with self._alone():
            found = gradient(losses, sam.params)
        if together:
            pairs = zip(found, sam.params, strict=True)
            whole = [torch.zeros_like(p) if g is None else g for g, p in pairs]
            add_up_(whole)
            found = [*whole]
        with sam.ascended(found):
            yield

    def settle(self, statistics: Sequence[Tensor]) -> None:
        """Average the running statistics; counts of batches are the same anyway."""
        if self.average_statistics:
            average_(statistics, self.runtime.world)

    def count(self, clipped: ClipRecord) -> ClipRecord:
        """All ranks clip the same; one of them counts."""
        return clipped if self.runtime.main else ClipRecord()

    def counts(self, name: str) -> bool:
        """One rank counts them all."""
        return self.runtime.main

    def _alone(self) -> Any:
        assert self._ddp is not None
        return self._ddp.no_sync()


def average_(statistics: Sequence[Tensor], world: int) -> None:
    """The mean over ranks, in place."""
    floating = [x for x in statistics if x.is_floating_point()]
    if floating:
        add_up_(floating)
        torch._foreach_div_(floating, world)


class _Loss(nn.Module):
    """A model and what is computed with it: the module whose backward pass is reduced."""

    def __init__(self, model: nn.Module, loss_of: SummedLoss) -> None:
        super().__init__()
        self.model = model
        self.loss_of = loss_of

    def forward(self, images: Tensor, keys: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss_of(images, keys, targets)


def _buffers_apart() -> dict[str, Any]:
    """The argument by which ranks keep their buffers; it has another name since PyTorch 2.13."""
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    new = "forward_sync_buffers"
    return {new if new in known else "broadcast_buffers": False}


def _add_up(bucket: GradBucket) -> Future[Tensor]:
    """What happens to a bucket of gradients: a sum in their own type, which is float32."""
    import torch.distributed as dist

    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])
