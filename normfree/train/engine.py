"""How the gradient of a batch comes together, in one process; with several, a subclass says how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.optim import SAM
from normfree.optim.clip_record import ClipRecord
from normfree.train.runtime import Runtime

if TYPE_CHECKING:
    from normfree.models import ImageClassifier
    from normfree.train.gradient import SummedLoss


class Engine:
    """One process: its gradient is the batch's, and all that it holds is whole.

    Each rank has its micro-batches of a step, as many as every other rank, and the loss of each is
    a share of the mean over the whole batch. Gradients are therefore added over ranks, not
    averaged. What a subclass overrides is what ranks have to say to each other.

    Args:
        runtime: the ranks.

    Attributes:
        splits: whether a rank holds only a part of the parameters.
    """

    splits = False

    def __init__(self, runtime: Runtime | None = None) -> None:
        self.runtime = Runtime(device="cpu") if runtime is None else runtime

    def prepare(self, model: ImageClassifier) -> None:
        """Leave to this rank what it holds of a model; before an optimizer knows its parameters."""

    def parallel(self, loss_of: SummedLoss, model: nn.Module) -> SummedLoss:
        """The function to compute losses with, so that gradients of the model are reduced."""
        return loss_of

    @contextmanager
    def descending(self, *, last: bool) -> Iterator[None]:
        """Around the forward and backward pass that adds a micro-batch to ``.grad``.

        Args:
            last: whether ``.grad`` is complete after it.
        """
        yield

    @contextmanager
    def ascended(self, sam: SAM, losses: Iterable[Tensor], *, together: bool) -> Iterator[None]:
        """Within, the weights have ascended along the gradient of the sum of losses.

        Args:
            sam: moves the weights, and puts them back.
            losses: of the micro-batches that ascend, each computed when it is asked for.
            together: whether all ranks ascend along the sum of their gradients, and not each by
                itself.
        """
        with sam.ascended(gradient(losses, sam.params)):
            yield

    def complete(self, params: Iterable[Tensor]) -> None:
        """Add up over ranks what the backward passes did not."""

    def settle(self, statistics: Sequence[Tensor]) -> None:
        """Let running statistics be the mean over ranks, each of which saw other images."""

    def count(self, clipped: ClipRecord) -> ClipRecord:
        """The part of a record that this rank counts, so that the ranks' counts add up."""
        return clipped

    def counts(self, name: str) -> bool:
        """Whether this rank is the one, or one of those, to count a parameter, by its name."""
        return True

    def whole(self, state: Any) -> Any:
        """A state dict with whole tensors, not only the rows of this rank."""
        return state

    def share(self, state: Any, like: Any) -> Any:
        """The reverse: of each whole tensor what this rank holds.

        Args:
            state: nested dictionaries and lists, with whole tensors.
            like: a state dict of this rank; what it lacks stays whole.
        """
        return state

    @contextmanager
    def gathered(self, models: Iterable[nn.Module]) -> Iterator[None]:
        """Within, this rank holds all weights of some models, and can compute by itself."""
        yield


def gradient(losses: Iterable[Tensor], params: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of a sum of losses by some parameters; ``.grad`` is left alone.

    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> gradient((x * k for k in (1, 3)), [x]), gradient([], [x])
    ([tensor(4.)], [None])
    """
    total: list[Tensor | None] = [None] * len(params)
    for loss in losses:
        found = torch.autograd.grad(loss, params, allow_unused=True)
        total = [_added(before, new) for before, new in zip(total, found, strict=True)]
    return total


def _added(before: Tensor | None, new: Tensor | None) -> Tensor | None:
    """The sum of what there is."""
    return new if before is None else before if new is None else before + new


def add_up_(tensors: Sequence[Float[Tensor, "..."]], group: Any = None) -> None:
    """Sum tensors over ranks in place, all in one message for each type.

    Args:
        tensors: as many of the same shapes and types on every rank.
        group: the ranks; None for all.
    """
    import torch.distributed as dist

    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for some in by_type.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in some])
        dist.all_reduce(flat, group=group)
        parts = flat.split([tensor.numel() for tensor in some])
        sums = [part.view(x.shape) for part, x in zip(parts, some, strict=True)]
        torch._foreach_copy_(some, sums)
