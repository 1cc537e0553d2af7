"""A residual block with batch normalization as one with α, β and a SkipInit gain."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, fx, nn

from normfree.conversion.activations import scaled_call, scaled_layer
from normfree.conversion.convolutions import Weights
from normfree.conversion.layers import LayerConversion
from normfree.conversion.report import Report
from normfree.conversion.tracing import (
    BATCH_NORMS,
    LAYERS,
    ancestors,
    is_sum,
    layer_of,
    trace,
)
from normfree.errors import UserError
from normfree.nn import ResidualBlock, ScaledActivation
from normfree.nn.dropout import StochasticDepth


class ConvertedBlock(ResidualBlock):
    r"""A residual block made of another network's layers.

    .. math:: a = \beta\,\gamma f(x), \qquad y = s(x, a) + \alpha\, g\, F(a)

    Args:
        layers: the branch F, whose output has unit variance.
        shortcut: the projection of a on the skip path; None keeps x.
        alpha: α.

    Source: figures 5 and 6 of the paper. Stochastic depth of the original stays in the branch.
    """

    def __init__(self, layers: nn.Module, shortcut: nn.Module | None, alpha: float) -> None:
        nn.Module.__init__(self)  # the parts are there; a BlockSpec would describe new ones
        weight = next(layers.parameters())
        self.act0 = ScaledActivation("identity")
        self.alpha, self.beta, self.beta_place = alpha, 1.0, "after"
        self.layers, self.shortcut = layers, shortcut
        self.stochastic_depth = StochasticDepth(0.0, stream=0)
        self.skip_gain = nn.Parameter(weight.new_zeros(()))

    def branch(self, a: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The converted layers."""
        return self.layers(a)


@dataclass
class Parts:
    """What a traced residual block consists of.

    Attributes:
        x: its input.
        start: the value that its branch begins with: x, or x normalized and activated.
        branch: the end of its branch.
        skip: the end of its skip path.
        before: the activation between x and the start, if there is one.
        after: the activation of the sum, if there is one.
    """

    x: fx.Node
    start: fx.Node
    branch: fx.Node
    skip: fx.Node
    before: ScaledActivation | None
    after: ScaledActivation | None

    @property
    def projects(self) -> bool:
        """Whether the skip path has layers of its own."""
        return self.skip is not self.x


class UnknownBlockError(UserError):
    """The block is none that can be converted, for a reason that the report repeats."""


def converted_block(
    block: nn.Module, name: str, report: Report, *, weights: Weights, alpha: float
) -> tuple[ConvertedBlock, ScaledActivation | None]:
    """Convert a block; its β and first activation follow from what precedes it.

    Args:
        block: any module that adds a branch to a skip path.
        name: of the block in its network.
        report: where changes are noted.
        weights: what becomes of the filters.
        alpha: α.

    Returns:
        The block, and the activation that followed its sum, which belongs to what comes next.

    Raises:
        UserError: the block is none that can be converted.
    """
    traced = trace(block, name=name)
    parts = parts_of(traced)
    found = Report(report.network)
    layers = _path(traced, parts, parts.branch)
    shortcut = _path(traced, parts, parts.skip) if parts.projects else None
    for path in filter(None, (layers, shortcut)):
        end = LayerConversion(path, found, weights, prefix=f"{name}.").run()
        if any(isinstance(m, BATCH_NORMS) for m in path.modules()):
            raise UnknownBlockError("; ".join(f"{inner}: {why}" for inner, _, why in found.left))
        if end != 1:
            raise UnknownBlockError(
                "its branch does not end with a convolution, and has no unit variance"
            )
    new = ConvertedBlock(layers, shortcut, alpha)
    if parts.before is not None:
        new.act0 = parts.before
    report.changes += found.changes
    report.left += found.left
    return new, parts.after


def parts_of(traced: fx.GraphModule) -> Parts:
    """Recognize a block.

    Raises:
        UnknownBlockError: it is not a sum of a branch and a skip path.
    """
    graph = traced.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    sums = [node for node in graph.nodes if is_sum(node)]
    if len(inputs) != 1:
        raise UnknownBlockError(f"its forward pass has {len(inputs)} arguments")
    x, total = inputs[0], sums[-1]
    after = _after(traced, total)
    skip, branch = sorted(total.args, key=lambda end: _depth(traced, end))
    if x not in ancestors(skip) or x not in ancestors(branch):
        raise UnknownBlockError("adds something that does not depend on its input")
    if _depth(traced, skip) == _depth(traced, branch):
        raise UnknownBlockError(
            "adds two paths of equally many layers; none of them is a skip path"
        )
    skip = _without_identities(traced, skip)
    start, before = (x, None) if after is not None else _lead(traced, x, branch)
    if skip is not x and _depth(traced, skip) == 0:
        raise UnknownBlockError("changes the shape on its skip path without a convolution")
    return Parts(x, start, branch, skip, before, after)


def _after(traced: fx.GraphModule, total: fx.Node) -> ScaledActivation | None:
    """The activation of the sum, after which nothing but the output may come."""
    found, node = None, total
    while True:
        users = list(node.users)
        if len(users) != 1:
            raise UnknownBlockError("uses its sum more than once")
        (node,) = users
        if node.op == "output":
            return found
        layer = layer_of(traced, node)
        if isinstance(layer, nn.Identity):
            continue
        activation = scaled_call(node) if layer is None else scaled_layer(layer)
        if activation is None or found is not None:
            raise UnknownBlockError(f"does more with its sum than to activate it: {node.name}")
        found = activation


def _lead(
    traced: fx.GraphModule, x: fx.Node, branch: fx.Node
) -> tuple[fx.Node, ScaledActivation | None]:
    """The normalized and activated input of a pre-activation block, or x itself."""
    inside = ancestors(branch)
    first = [node for node in x.users if node in inside]
    norm = layer_of(traced, first[0]) if len(first) == 1 else None
    if not isinstance(norm, BATCH_NORMS):
        return x, None
    (start,) = first
    inner = getattr(norm, "act", None)
    if isinstance(inner, nn.Module) and (activation := scaled_layer(inner)) is not None:
        return start, activation
    users = list(start.users)
    while len(users) == 1:
        layer = layer_of(traced, users[0])
        activation = scaled_call(users[0]) if layer is None else scaled_layer(layer)
        if activation is not None:
            return users[0], activation
        if not isinstance(layer, nn.Identity):
            break
        users = list(users[0].users)
    return start, None


def _path(traced: fx.GraphModule, parts: Parts, end: fx.Node) -> fx.GraphModule:
    """The module from the start of the block's branch to the end of one of its paths."""
    graph = fx.Graph()
    a = graph.placeholder("a")
    copies: dict[fx.Node, fx.Node] = {parts.start: a, parts.x: a}
    inside = ancestors(end, parts.start)  # without what leads to it, which the block does itself
    for node in traced.graph.nodes:
        if node in inside and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[end])
    return fx.GraphModule(traced, graph, "Branch" if end is parts.branch else "Projection")


def _depth(traced: fx.GraphModule, end: fx.Node) -> int:
    """The number of layers of a path."""
    return sum(isinstance(layer_of(traced, node), LAYERS) for node in ancestors(end))


def _without_identities(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    while isinstance(layer_of(traced, node), nn.Identity):
        (node,) = node.all_input_nodes
    return node


def set_signal(block: ConvertedBlock, variance: float) -> float:
    r"""Set β from the variance of the block's input; return that of its output.

    .. math:: \beta = \mathrm{Var}^{-1/2}, \qquad
        \mathrm{Var}' = \alpha^2 + \begin{cases}1 & \text{with a projection} \\
        \mathrm{Var} & \text{otherwise}\end{cases}
    """
    block.beta = variance**-0.5
    return (variance if block.shortcut is None else 1.0) + block.alpha**2
