"""Gates between 0 and 1, doubled so that their mean at initialization is one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

_SIGMOIDS = ("sigmoid", "hardsigmoid")


class Doubled(nn.Module):
    """Twice what a gate or a gated map is, as in squeeze-and-excite without normalization.

    Args:
        gate: a sigmoid, or a module that multiplies its input by one.

    Example:
        >>> import torch
        >>> Doubled(nn.Sigmoid())(torch.zeros(1))
        tensor([1.])

    Source: section 3 and appendix C of the paper.
    """

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, *args: Any) -> Tensor:
        """Double."""
        return 2 * self.gate(*args)


def is_sigmoid(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node is a sigmoid: a layer, a function or a method."""
    target = type(layer) if layer is not None else node.target
    name = getattr(target, "__name__", str(target))
    return name.lower().replace("_", "") in _SIGMOIDS


def gates_its_input(layer: nn.Module) -> bool:
    """Whether a module multiplies its input by a sigmoid, as squeeze-and-excite of others does.

    >>> gates_its_input(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())), gates_its_input(nn.ReLU())
    (True, False)
    """
    names = [type(m).__name__.lower() for m in layer.modules() if m is not layer]
    return any(name in _SIGMOIDS for name in names)
