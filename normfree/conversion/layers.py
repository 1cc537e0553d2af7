r"""The layers of a graph, converted one by one while the variance of every value is known.

A standardized convolution of an input with unit variance has unit variance, and so has a scaled
activation of that. A batch normalization of a value whose variance is known is not needed.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from normfree.conversion.activations import scaled_call, scaled_layer
from normfree.conversion.convolutions import Weights, obstacle, standardized
from normfree.conversion.gates import Doubled, gates_its_input, is_sigmoid
from normfree.conversion.report import Report
from normfree.conversion.tracing import (
    BATCH_NORMS,
    LAYERS,
    OTHER_NORMS,
    call_layer,
    is_product,
    is_sum,
    layer_of,
)
from normfree.nn import ResidualBlock


class LayerConversion:
    """Converts the layers of a traced module, in the order of execution.

    Args:
        traced: is changed in place.
        report: where changes are noted.
        weights: what becomes of the filters.
        prefix: what precedes the names of its layers in the network, such as ``layer1.0.``.
        variance: of the input; None if it is not known, as of images.
        feeds_sum: whether the output is added to a skip path, so that its variance matters.

    Attributes:
        replaced: name → new layer, where one module took the place of another.
        rewritten: whether the graph does anything that replacing modules alone would not.
    """

    def __init__(
        self,
        traced: fx.GraphModule,
        report: Report,
        weights: Weights,
        *,
        prefix: str = "",
        variance: float | None = 1.0,
        feeds_sum: bool = True,
    ) -> None:
        self.traced, self.report, self.weights, self.prefix = traced, report, weights, prefix
        self.variance, self.feeds_sum = variance, feeds_sum
        self.variances: dict[fx.Node, float | None] = {}
        self.replaced: dict[str, nn.Module] = {}
        self.rewritten = False

    def run(self) -> float | None:
        """Convert; return the expected variance of the output, if it is known."""
        variance = self.variance
        for node in list(self.traced.graph.nodes):
            self.variances[node] = variance = self.convert(node)
        self.traced.graph.lint()
        self.traced.delete_all_unused_submodules()
        self.traced.recompile()
        return variance

    def convert(self, node: fx.Node) -> float | None:
        """Convert what a node calls; return the expected variance of its output."""
        if node.op == "placeholder":
            return self.variance
        layer = layer_of(self.traced, node)
        if isinstance(layer, BATCH_NORMS):
            return self.normalization(node, layer)
        if isinstance(layer, LAYERS):
            return self.convolution(node, layer)
        if isinstance(layer, OTHER_NORMS):
            self.leave(node, layer, "only batch normalization of feature maps is converted")
            return 1.0
        return self.other(node, layer)

    def convolution(self, node: fx.Node, layer: nn.Module) -> float | None:
        """Standardize a convolution if batch normalization follows it."""
        if isinstance(layer, nn.Linear | nn.Bilinear):
            return None
        if not self.normalized(node):
            self.leave(node, layer, "no batch normalization follows it")
            return None
        reason = obstacle(layer)
        if reason is not None:
            self.leave(node, layer, reason)
            return None
        assert isinstance(layer, nn.Conv2d)
        variance = self.variances[node.all_input_nodes[0]]
        self.replace(node, standardized(layer, self.weights, variance or 1.0))
        return 1.0

    def normalized(self, conv: fx.Node) -> bool:
        """Whether the output is normalized, or added to a skip path, before the next layer."""
        seen, waiting = set[fx.Node](), list(conv.users)
        while waiting:
            node = waiting.pop()
            layer = layer_of(self.traced, node)
            if isinstance(layer, (*BATCH_NORMS, ResidualBlock)):
                return True
            if node.op == "output":
                if self.feeds_sum:
                    return True
            elif not isinstance(layer, LAYERS) and not is_sigmoid(node, layer) and node not in seen:
                waiting.extend(node.users)
            seen.add(node)
        return False

    def normalization(self, node: fx.Node, layer: nn.Module) -> float | None:
        """Remove batch normalization where the variance of its input is known."""
        variance = self.variances[node.all_input_nodes[0]]
        if variance is None:
            self.leave(node, layer, self._why_unknown(node.all_input_nodes[0]))
            return 1.0
        inner = getattr(layer, "act", None)  # timm has layers that normalize and activate
        activation = scaled_layer(inner) if isinstance(inner, nn.Module) else None
        self.replace(node, activation or nn.Identity())
        return variance

    def _why_unknown(self, source: fx.Node) -> str:
        if source.op == "placeholder":
            return "normalizes the images themselves, whose statistics only the data can tell"
        return f"the variance of its input, {source.name}, is not known"

    def other(self, node: fx.Node, layer: nn.Module | None) -> float | None:
        """Scale activations and gates; the rest passes the variance on."""
        if node.op == "call_method" and node.target == "view":
            node.target, self.rewritten = "reshape", True  # maps may be channels-last in memory
        variance = self.passed_on(node, layer)
        if is_sigmoid(node, layer):
            if self.gates_known(node):
                self.replace(node, Doubled(layer or nn.Sigmoid()))
        elif variance is None:
            return None
        elif activation := scaled_call(node) if layer is None else scaled_layer(layer):
            self.activate(node, activation)
        elif layer is not None and gates_its_input(layer):
            self.replace(node, Doubled(layer))
        elif isinstance(layer, nn.PReLU):
            self.leave(node, layer, "its slope is learned, and with it its gain")
        return variance

    def activate(self, node: fx.Node, activation: nn.Module) -> None:
        """Scale an activation."""
        self.replace(node, activation)

    def passed_on(self, node: fx.Node, layer: nn.Module | None) -> float | None:
        """The variance of what a node that is no layer makes of its inputs."""
        if layer is not None and not _passes_on(layer):
            return None
        known = [self.variances[x] for x in node.all_input_nodes]
        variances = [variance for variance in known if variance is not None]
        if not variances or (len(variances) < len(known) and not is_product(node)):
            return None
        return sum(variances) if is_sum(node) else max(variances)

    def gates_known(self, sigmoid: fx.Node) -> bool:
        """Whether a sigmoid multiplies a map of known variance, other than its own input."""
        products = [user for user in sigmoid.users if is_product(user)]
        gated = {x for user in products for x in user.all_input_nodes} - {sigmoid}
        own = set(sigmoid.all_input_nodes)  # x · σ(x) is an activation
        return not gated & own and any(self.variances.get(x) is not None for x in gated)

    def replace(self, node: fx.Node, layer: nn.Module) -> None:
        """Let a node call another layer, and note the change."""
        before = layer_of(self.traced, node)
        name, kind = str(node.target), type(before).__name__
        if before is None:
            name, kind = node.name, str(getattr(node.target, "__name__", node.target))
            call_layer(self.traced, node, layer)
            self.rewritten = True
        elif sum(n.op == "call_module" and n.target == name for n in self.traced.graph.nodes) > 1:
            call_layer(self.traced, node, layer)
            self.rewritten = True
        else:
            self.traced.set_submodule(name, layer)
            self.replaced[name] = layer
        self.report.changed(self.prefix + name, kind, _called(layer))

    def leave(self, node: fx.Node, layer: Any, why: str) -> None:
        """Note what is left."""
        self.report.leave(f"{self.prefix}{node.target}", type(layer).__name__, why)


def _called(layer: nn.Module) -> str:
    return "removed" if isinstance(layer, nn.Identity) else type(layer).__name__


def _passes_on(layer: nn.Module) -> bool:
    """Whether the output varies as the input does: true of gates, and of what has no layers."""
    kinds = BATCH_NORMS if gates_its_input(layer) else (*LAYERS, *BATCH_NORMS)
    return not any(isinstance(inner, kinds) for inner in layer.modules())
