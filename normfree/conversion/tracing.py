"""The graph of a network's forward pass, and what its nodes are."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
from torch import fx, nn

from normfree.conversion.gates import gates_its_input
from normfree.errors import UserError, one_line
from normfree.nn import ResidualBlock

#: Batch normalization of feature maps.
BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)

#: Normalization that is not converted.
OTHER_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)
#: Layers that mix channels, and so begin a new signal.
LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear)

_SUMS = (operator.add, operator.iadd, torch.add)
_PRODUCTS = (operator.mul, operator.imul, torch.mul)
_DROPOUTS = ("dropout", "dropout2d", "feature_dropout")


class _Tracer(fx.Tracer):
    """Follows a module into whatever has convolutions or blocks of its own, except into gates.

    Args:
        whole: names of modules that are not entered.
    """

    def __init__(self, whole: frozenset[str]) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.whole or isinstance(m, ResidualBlock):
            return True
        if isinstance(m, BATCH_NORMS) or super().is_leaf_module(m, module_qualified_name):
            return True
        inside = [inner for inner in m.modules() if inner is not m]
        blocks = any(isinstance(inner, (*BATCH_NORMS, ResidualBlock)) for inner in inside)
        if blocks or isinstance(m, nn.Sequential):
            return False
        layers = any(isinstance(inner, LAYERS) for inner in inside)
        return isinstance(m, LAYERS) or not layers or gates_its_input(m)


def trace(module: nn.Module, whole: frozenset[str] = frozenset(), name: str = "") -> fx.GraphModule:
    """The graph of a module's forward pass, in which optional arguments have their defaults.

    Dropout by a function, which reads the mode only while it is traced, becomes a layer.

    Args:
        module: shares its layers with the result.
        whole: names of modules that are not entered.
        name: of the module, for errors.

    Raises:
        UserError: the forward pass depends on values.
    """
    traced = fx.GraphModule(module, _follow(module, whole, name))
    for node in list(traced.graph.nodes):
        if node.op == "call_function" and getattr(node.target, "__name__", "") in _DROPOUTS:
            rate = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
            whole_channels = node.target.__name__ != "dropout"
            call_layer(traced, node, nn.Dropout2d(rate) if whole_channels else nn.Dropout(rate))
    return traced


def _follow(module: nn.Module, whole: frozenset[str], name: str) -> fx.Graph:
    """Trace; what cannot be followed is not entered if it has no batch normalization."""
    parameters = inspect.signature(module.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    tracer = _Tracer(whole)
    try:
        return tracer.trace(module, concrete_args=defaults)
    except Exception as error:  # whatever a network does with what is no tensor
        place = next(reversed(tracer.module_stack), "")
        inside = module.get_submodule(place)
        if place and not any(isinstance(m, BATCH_NORMS) for m in inside.modules()):
            return _follow(module, whole | {place}, name)
        called = ".".join(filter(None, (name, place))) or "the network"
        raise UserError(
            f"cannot follow the forward pass of {called} ({type(inside).__name__}): "
            f"{one_line(error)}; convert needs a forward pass that does not branch on the values "
            "or the shape of the images; convert a part of the network that does not"
        ) from error


def call_layer(traced: fx.GraphModule, node: fx.Node, layer: nn.Module) -> None:
    """Let a node call a new layer, on its first argument."""
    name, number = node.name, 0
    while hasattr(traced, name):
        number += 1
        name = f"{node.name}_{number}"
    traced.add_submodule(name, layer)
    source = node.args[0]
    node.op, node.target, node.args, node.kwargs = "call_module", name, (source,), {}


def layer_of(traced: nn.Module, node: fx.Node) -> nn.Module | None:
    """The module that a node calls, if it does."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds two values."""
    return _combines_two(node, _SUMS, ("add", "add_"))


def is_product(node: fx.Node) -> bool:
    """Whether a node multiplies two values."""
    return _combines_two(node, _PRODUCTS, ("mul", "mul_"))


def _combines_two(node: fx.Node, functions: tuple[Any, ...], methods: tuple[str, ...]) -> bool:
    known = {"call_function": functions, "call_method": methods}.get(node.op, ())
    return node.target in known and len(node.all_input_nodes) == len(node.args) == 2


def home(node: fx.Node) -> str:
    """The name of the innermost module in whose forward pass a node is."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def ancestors(node: fx.Node, start: fx.Node | None = None) -> set[fx.Node]:
    """Everything that a node is computed from, back to a start, and itself."""
    found, waiting = set[fx.Node](), [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(one.all_input_nodes if one is not start else ())
    return found
