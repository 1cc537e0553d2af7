"""The graph of a folded network while it is being built, and the values that flow through it.

Apart from its activations, a normalizer-free network is linear, so every constant can move into the
weights of a neighboring layer. A module with a method ``fold(graph, name, x)`` writes its plain
equivalent to the graph. It takes and returns a :class:`Value`: the output of a node, and a pending
constant that a later layer absorbs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from normfree.errors import UserError

#: A tensor in the graph: a :class:`torch.fx.Proxy`, which records the operations applied to it. Its
#: operators are defined at run time, so type checkers cannot see them.
Proxy: TypeAlias = Any


def affine(layer: nn.Conv2d | nn.Linear) -> tuple[Tensor, Tensor]:
    """The weight and bias that a layer applies, in at least float32.

    >>> weight, bias = affine(nn.Linear(3, 2, bias=False, dtype=torch.bfloat16))
    >>> weight.dtype, bias
    (torch.float32, tensor([0., 0.]))
    """
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    if layer.weight.dtype != dtype:
        layer = copy.deepcopy(layer).to(dtype)
    applied = getattr(layer, "applied_weight", None)  # our convolutions have it
    weight: Tensor = layer.weight if applied is None else applied()
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias


class Value:
    """A value in the network: ``scale`` times the output of a graph node.

    Args:
        value: output of a graph node.
        scale: a pending constant.
    """

    #: Whether it is a 1×1 convolution not yet in the graph, which commutes with the mean.
    pointwise = False

    def __init__(self, value: Proxy, scale: float = 1.0) -> None:
        self.value, self.scale = value, scale

    def written(self) -> Value:
        """The same value in the graph, except for a pending constant."""
        return self

    def proxy(self) -> Proxy:
        """The same value in the graph, constant included."""
        x = self.written()
        return x.value if x.scale == 1 else x.value * x.scale

    def mean(self, dim: Sequence[int]) -> Value:
        """The mean over the given axes."""
        x = self.written()
        return Value(x.value.mean(dim), x.scale)

    def __mul__(self, constant: float) -> Value:
        """Multiply by a constant, which stays pending."""
        return Value(self.value, self.scale * constant)

    __rmul__ = __mul__

    def __add__(self, branch: Value) -> Value:
        """The sum of two values."""
        return branch.added_to(self)

    def added_to(self, skip: Value) -> Value:
        """The sum with ``skip``."""
        return Value(skip.proxy() + self.proxy())


class Convolved(Value):
    """A deferred convolution: it absorbs constants until its output is needed.

    Args:
        graph: graph to which it is added.
        name: name of the convolution in the model.
        conv: the convolution.
        x: input of the convolution.
        scale: a constant that multiplies its weight and bias.
    """

    def __init__(
        self, graph: FoldedGraph, name: str, conv: nn.Conv2d, x: Value, scale: float = 1.0
    ) -> None:
        self.graph, self.name, self.conv, self.x, self.scale = graph, name, conv, x.written(), scale
        self.after = graph.last_node()
        self._written: Value | None = None

    @property
    def pointwise(self) -> bool:  # type: ignore[override]
        """Whether it commutes with the mean over space."""
        return self._written is None and {*self.conv.kernel_size, *self.conv.stride} == {1}

    def written(self) -> Value:
        """Add the plain convolution at its place in the model and return its output."""
        if self._written is None:
            with self.graph.after(self.after):
                value = self.graph.convolution(self.name, self.conv, self.x, self.scale)
            self._written = Value(value)
        return self._written

    def __mul__(self, constant: float) -> Value:
        """Multiply by a constant, which moves into the weights."""
        if self._written is not None:
            return self._written * constant
        scaled = Convolved(self.graph, self.name, self.conv, self.x, self.scale * constant)
        scaled.after = self.after
        return scaled


class Gated(Value):
    """A value times a gate; constants move into the value.

    Args:
        ungated: the value.
        gate: factor that it is multiplied by.
    """

    def __init__(self, ungated: Value, gate: Proxy) -> None:
        self.ungated, self.gate = ungated, gate

    def written(self) -> Value:
        """The product."""
        return Value(self.ungated.proxy() * self.gate)

    def __mul__(self, constant: float) -> Value:
        """Multiply by a constant, which moves in front of the gate."""
        return Gated(self.ungated * constant, self.gate)

    def added_to(self, skip: Value) -> Value:
        """The sum of ``skip`` and the gated value, in one operation."""
        return Value(torch.addcmul(skip.proxy(), self.ungated.proxy(), self.gate))


class FoldedGraph:
    """Builder for a graph of plain ``torch.nn`` layers.

    Args:
        name: class name of the folded network.
        dtype: data type of its parameters.
    """

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.module = fx.GraphModule(nn.Module(), fx.Graph(), name)
        self._tracer = fx.proxy.GraphAppendingTracer(self.module.graph)

    def placeholder(self, name: str) -> Value:
        """The input of the network."""
        return Value(fx.Proxy(self.module.graph.placeholder(name), self._tracer))

    def last_node(self) -> fx.Node:
        """The node added last."""
        return next(iter(reversed(self.module.graph.nodes)))

    def after(self, node: fx.Node) -> Any:
        """A context in which new nodes are inserted after the given node."""
        return self.module.graph.inserting_before(node.next)

    def call(self, name: str, layer: nn.Module, x: Proxy) -> Proxy:
        """Add a plain layer to the folded network and apply it."""
        self.module.add_submodule(name, layer)
        return fx.Proxy(self.module.graph.call_module(name, (x.node,)), self._tracer)

    def convolution(self, name: str, conv: nn.Conv2d, x: Value, gain: float = 1.0) -> Proxy:
        """Apply a plain convolution to a value, with its output scaled by ``gain``."""
        weight, bias = affine(conv)
        padded, padding = self._padded(x.value, conv)
        layer = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            padding,
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            device="meta",
        )
        layer.weight = self._parameter(weight * (x.scale * gain))
        layer.bias = self._parameter(bias * gain)
        return self.call(name, layer, padded)

    def linear(self, name: str, weight: Tensor, bias: Tensor, x: Proxy) -> Proxy:
        """Apply a linear layer with the given parameters."""
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        layer.weight, layer.bias = self._parameter(weight), self._parameter(bias)
        return self.call(name, layer, x)

    def linear_of_mean(self, name: str, layer: nn.Linear, x: Value) -> Proxy:
        """Apply a linear layer to the spatial mean of a value.

        A 1×1 convolution commutes with the mean. A deferred one is therefore multiplied into the
        layer, which then reads the mean of the convolution's input.
        """
        weight, bias = affine(layer)
        if isinstance(x, Convolved) and x.pointwise:
            first, shift = affine(x.conv)
            if x.scale != 1:
                first, shift = first * x.scale, shift * x.scale
            bias = bias + weight @ shift
            weight = weight @ torch.block_diag(*first.flatten(1).chunk(x.conv.groups))
            x = x.x
        x = x.mean((2, 3))
        return self.linear(name, weight * x.scale, bias, x.value)

    def _parameter(self, value: Tensor) -> nn.Parameter:
        return nn.Parameter(value.to(self.dtype, copy=True), requires_grad=False)

    def _padded(self, x: Proxy, conv: nn.Conv2d) -> tuple[Proxy, Any]:
        """``SAME`` padding, done by the convolution itself if it is always symmetric."""
        if not getattr(conv, "same", False):
            return x, conv.padding
        spans = [(k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
        if all(
            span == 1 or (span % 2 and s == 1) for span, s in zip(spans, conv.stride, strict=True)
        ):
            return x, (spans[0] // 2, spans[1] // 2)
        return pad_same(x, spans, conv.stride), (0, 0)


def pad_same(x: Proxy, spans: Sequence[int], strides: Sequence[int], value: float = 0.0) -> Proxy:
    """``SAME`` padding for a window at least as large as its stride.

    The total padding is the overlap of windows, ``span − stride``, plus the amount that rounds the
    size up to a multiple of the stride. The larger half goes after the axis. Sizes are read when
    the graph runs, so it accepts inputs of any size.
    """
    padding: list[Proxy] = []
    for axis, span, stride in zip((2, 3), spans, strides, strict=True):
        if span < stride:
            raise UserError(
                f"SAME padding of windows of {span} at stride {stride} cannot be folded"
            )
        total = -x.size(axis) % stride + (span - stride)
        before = total // 2
        padding = [before, total - before, *padding]
    return F.pad(x, padding, value=value)
