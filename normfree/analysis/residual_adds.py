"""The residual additions of any network, found while it runs: nothing of it has to be known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten

_ADDS = (aten.add.Tensor, aten.add_.Tensor)
_LAYERS = (aten.convolution.default, aten.addmm.default, aten.mm.default, aten.bmm.default)


class ResidualAdd(NamedTuple):
    """One addition of a branch to a skip path.

    Attributes:
        name: of the innermost module that adds; with a number, if it adds several times.
        output: the sum.
        branch: what was added, with all its factors.
    """

    name: str
    output: Tensor
    branch: Tensor


class _Watch(TorchDispatchMode):
    """Knows behind how many layers each tensor lies, and notes sums of two depths.

    Args:
        stack: names of the modules that are running.
        seen: called with each addition.
    """

    def __init__(self, stack: list[str], seen: Any) -> None:
        super().__init__()
        self.stack, self.seen = stack, seen
        self.depth = WeakTensorKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        branch = self._branch(args, kwargs) if func in _ADDS else None
        deepest = max((self._depth(x) for x in _tensors(args)), default=-1)
        result = func(*args, **kwargs)
        if deepest >= 0:
            for x in _tensors((result,)):
                self.depth[x] = deepest + (func in _LAYERS)
        if branch is not None:
            self.seen(ResidualAdd(self.stack[-1] if self.stack else "", result, branch))
        return result

    def _branch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """The operand that lies behind more layers; a copy, because the sum may be in place."""
        a, b = args[0], args[1]
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape:
            return None
        depths = self._depth(a), self._depth(b)
        if a.ndim < 3 or min(depths) < 0 or depths[0] == depths[1]:
            return None
        if depths[0] > depths[1]:
            return a.clone()
        return b * kwargs.get("alpha", 1)

    def _depth(self, x: Tensor) -> int:
        return int(self.depth.get(x, -1))


@contextmanager
def watched(model: nn.Module, images: Tensor, seen: Any) -> Iterator[None]:
    """Within, ``seen`` gets a :class:`ResidualAdd` for each residual addition of the model.

    A residual addition is one of two feature maps of one shape, both made from the images, that lie
    behind different numbers of layers: the deeper one is the branch.

    Args:
        model: runs inside, under ``torch.no_grad``.
        images: what it is given.
        seen: a function.
    """
    stack: list[str] = []
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if any(True for _ in module.children()):  # a leaf adds nothing that is residual
                enter = module.register_forward_pre_hook(
                    lambda module, args, name=name: stack.append(name)
                )
                leave = module.register_forward_hook(lambda *_: _pop(stack))
                hooks.callback(enter.remove)
                hooks.callback(leave.remove)
        watch = _Watch(stack, seen)
        watch.depth[images] = 0
        hooks.enter_context(watch)
        yield


def _pop(stack: list[str]) -> None:
    stack.pop()


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
