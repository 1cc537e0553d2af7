"""Dropout and stochastic depth with counter-based masks, fixed by the example and the layer."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.nn.folding import FoldedGraph, Value
from normfree.random import uniform


def keep_mask(
    rate: float, count: int, keys: Int[Tensor, " n"] | None, stream: int
) -> Bool[Tensor, "n count"]:
    """The mask that keeps each of ``count`` units of each example with probability 1 − rate.

    Args:
        rate: probability of dropping, in [0, 1).
        count: units that are dropped independently in one example.
        keys: one key per example (see :mod:`normfree.random`).
        stream: number of the layer, so that layers drop independently.

    Raises:
        UserError: there are no keys. A layer never draws from a random number generator.

    Example:
        >>> import torch
        >>> keep_mask(0.5, 4, torch.tensor([1, 2]), stream=0).shape
        torch.Size([2, 4])
    """
    if keys is None:
        raise UserError(
            "dropout and stochastic depth need keys in training, one per example: pass "
            "keys=normfree.random.example_keys(seed, epoch, index) as a tensor, or call the model "
            "itself, which draws them from torch's generator; model.eval() needs none"
        )
    return uniform(keys, stream, count) >= rate


class Dropout(nn.Module):
    r"""Drop each feature of each example with probability ``rate``; scale the rest by 1/(1−rate).

    Args:
        rate: probability of dropping, in [0, 1).
        stream: number of the layer, so that layers drop independently.

    Raises:
        UserError: the layer would drop but has no keys.

    Example:
        >>> import torch
        >>> drop = Dropout(0.5, stream=0)
        >>> x, keys = torch.ones(4, 1000), torch.arange(4)
        >>> torch.equal(drop(x, keys)[2:], drop(x[2:], keys[2:]))  # whatever the rest of the batch
        True
        >>> torch.equal(drop.eval()(x), x)
        True
    """

    def __init__(self, rate: float, stream: int) -> None:
        super().__init__()
        self.rate, self.stream = rate, stream

    def forward(
        self, x: Float[Tensor, "n c"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n c"]:
        """Mask and rescale in training mode; the identity in evaluation mode."""
        if not self.training or self.rate == 0:
            return x
        keep = keep_mask(self.rate, x.shape[1], keys, self.stream)
        return x * keep.to(x.dtype) / (1 - self.rate)

    def fold(self, graph: FoldedGraph, name: str, x: Value, keys: None = None) -> Value:
        """The identity, as in evaluation mode."""
        return x

    def extra_repr(self) -> str:  # noqa: D102
        return f"rate={self.rate:g}, stream={self.stream}"


class StochasticDepth(nn.Module):
    r"""Drop the entire residual branch of an example with probability ``rate``.

    Args:
        rate: probability of dropping, in [0, 1).
        stream: number of the layer, so that layers drop independently.

    Raises:
        UserError: the layer would drop but has no keys.

    Example:
        >>> import torch
        >>> branch = StochasticDepth(0.5, stream=3)(torch.ones(1000, 1, 1, 1), torch.arange(1000))
        >>> branch.unique()
        tensor([0., 1.])

    Source: Huang et al. (2016), as implemented in the authors' code.

    Differs from: timm, which divides the kept branches by 1 − rate. The authors rescale neither in
    training nor in evaluation.
    """

    def __init__(self, rate: float, stream: int) -> None:
        super().__init__()
        self.rate, self.stream = rate, stream

    def forward(
        self, x: Float[Tensor, "n c h w"], keys: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n c h w"]:
        """Mask whole examples in training mode; the identity in evaluation mode."""
        if not self.training or self.rate == 0:
            return x
        keep = keep_mask(self.rate, 1, keys, self.stream)
        return x * keep.to(x.dtype)[:, :, None, None]

    def fold(self, graph: FoldedGraph, name: str, x: Value, keys: None = None) -> Value:
        """The identity, as in evaluation mode."""
        return x

    def extra_repr(self) -> str:  # noqa: D102
        return f"rate={self.rate:g}, stream={self.stream}"
