"""Fully sharded data parallelism: each rank holds some output units of every weight (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from normfree.models import ImageClassifier
from normfree.optim import SAM
from normfree.optim.clip_record import ClipRecord
from normfree.optim.shards import is_sharded
from normfree.train.engine import Engine, add_up_, gradient
from normfree.train.replicated import average_
from normfree.train.runtime import Runtime

if TYPE_CHECKING:
    from normfree.train.gradient import SummedLoss


class Sharded(Engine):
    """Weights of layers are sharded by output units; gains and biases are whole on each rank.

    A rank holds whole output units, so that clipping by units needs no other rank; gains and
    biases, which are clipped by one norm, are a small part of a network. Weights are gathered block
    by block for the forward and the backward pass; gradients are added in the type of the weights,
    float32, and scattered, micro-batch by micro-batch: no rank ever holds a whole gradient.

    Args:
        runtime: the ranks; their mesh has two dimensions for hybrid sharding.
        average_statistics: as for :class:`~normfree.train.replicated.Replicated`.

    Differs from: ``fully_shard`` used plainly, which averages gradients.
    """

    splits = True

    def __init__(self, runtime: Runtime, *, average_statistics: bool = True) -> None:
        super().__init__(runtime)
        self.average_statistics = average_statistics

    def prepare(self, model: ImageClassifier) -> None:
        """Shard block by block; rows of weights are contiguous, whatever order images are in."""
        from torch.distributed.fsdp import fully_shard

        assert self.runtime.mesh is not None
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        whole = {parameter for parameter in model.parameters() if parameter.ndim < 2}
        blocks = [block for stage in model.stages for block in stage]  # type: ignore[attr-defined]
        for module in (*blocks, model):
            fully_shard(
                module,
                mesh=self.runtime.mesh,
                reshard_after_forward=True,
                ignored_params=whole,
            )
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)

    def parallel(self, loss_of: SummedLoss, model: nn.Module) -> SummedLoss:
        """The function itself: the model gathers its weights and scatters its gradients."""
        self._model = model
        self._sharded = {name for name, p in model.named_parameters() if is_sharded(p)}
        return loss_of

    @contextmanager
    def ascended(self, sam: SAM, losses: Iterable[Tensor], *, together: bool) -> Iterator[None]:
        """Along the sum of the ranks' gradients; or unsynchronized, with all weights on each."""
        if together:
            with sam.ascended(_backward(losses, sam.params)):
                yield
            return
        with self.gathered([self._model]):
            params = [p for p in self._model.parameters() if p.requires_grad]
            with SAM(params, sam.rho).ascended(gradient(losses, params)):
                yield

    def complete(self, params: Iterable[Tensor]) -> None:
        """Add the gradients of gains and biases; those of sharded weights are complete."""
        add_up_([p.grad for p in params if p.grad is not None and not is_sharded(p)])

    def settle(self, statistics: Sequence[Tensor]) -> None:
        """Average the running statistics; counts of batches are the same anyway."""
        if self.average_statistics:
            average_(statistics, self.runtime.world)

    def count(self, clipped: ClipRecord) -> ClipRecord:
        """The rows of this rank; the main one counts what all of them clip alike, too."""
        if self.runtime.main:
            return clipped
        return clipped.only(self._sharded) if self._is_first_replica() else ClipRecord()

    def counts(self, name: str) -> bool:
        """Likewise."""
        return self.runtime.main or (self._is_first_replica() and name in self._sharded)

    def whole(self, state: Any) -> Any:
        """Gather tensor by tensor; to the host, and on the main rank alone."""
        if isinstance(state, dict):
            return {name: self.whole(value) for name, value in state.items()}
        if isinstance(state, list | tuple):
            return type(state)(map(self.whole, state))
        if isinstance(state, Tensor) and is_sharded(state):
            sharded: Any = state
            full = sharded.full_tensor()
            return full.cpu() if self.runtime.main else None
        return state

    def share(self, state: Any, like: Any) -> Any:
        """Keep the rows of this rank of what is sharded in ``like``."""
        if isinstance(state, dict) and isinstance(like, dict):
            return {name: self.share(value, like.get(name)) for name, value in state.items()}
        if isinstance(state, Tensor) and isinstance(like, Tensor) and is_sharded(like):
            return _rows(state, like)
        return state

    @contextmanager
    def gathered(self, models: Iterable[nn.Module]) -> Iterator[None]:
        """Gather all weights, then free them; a forward pass is then no matter of all ranks."""
        from torch.distributed.fsdp import FSDPModule

        roots = [model for model in models if isinstance(model, FSDPModule)]
        parts = [part for root in roots for part in root.modules() if isinstance(part, FSDPModule)]
        _keep_gathered(roots, True)
        try:
            for part in parts:
                part.unshard()
            yield
        finally:
            _keep_gathered(roots, False)
            for part in parts:
                part.reshard()

    def _is_first_replica(self) -> bool:
        mesh = self.runtime.mesh
        assert mesh is not None
        return mesh.ndim == 1 or mesh.get_local_rank(0) == 0


def _keep_gathered(roots: Iterable[Any], keep: bool) -> None:
    for root in roots:
        root.set_reshard_after_forward(not keep)
        root.set_reshard_after_backward(not keep)


def _backward(losses: Iterable[Tensor], params: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of a sum of losses, over all ranks; ``.grad`` is as before.

    Backward passes alone reach sharded weights.
    """
    before = [p.grad for p in params]
    try:
        for p in params:
            p.grad = None
        for loss in losses:
            loss.backward()
        found = [p.grad for p in params]
    finally:
        for p, grad in zip(params, before, strict=True):
            p.grad = grad
    add_up_([g for g in found if g is not None and not is_sharded(g)])
    return found


def _rows(whole: Tensor, like: Any) -> Tensor:
    """This rank's share of a tensor that all ranks have; a copy, so that the rest can be freed."""
    from torch.distributed.tensor import distribute_tensor

    whole = whole.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None).clone()
