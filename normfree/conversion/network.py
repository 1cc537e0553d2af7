"""Conversion of a whole network: its blocks first, then what is around them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import NamedTuple, get_args

from torch import fx, nn

from normfree.conversion.block import ConvertedBlock, converted_block, set_signal
from normfree.conversion.convolutions import Weights
from normfree.conversion.layers import LayerConversion
from normfree.conversion.report import Report
from normfree.conversion.tracing import BATCH_NORMS, home, is_sum, layer_of, trace
from normfree.errors import UserError, unknown_name
from normfree.nn import ResidualBlock, ScaledActivation

#: Layers that an activation may move behind.
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.Identity)

#: Name of a block → the activation that followed its sum, or None.
_Activations = dict[str, ScaledActivation | None]


class Converted(NamedTuple):
    """A converted network, and what was done to it.

    Attributes:
        model: the network.
        report: what was converted, what was left, and why; print it.
    """

    model: nn.Module
    report: Report


def convert(model: nn.Module, *, weights: Weights = "keep", alpha: float = 0.2) -> Converted:
    r"""Rewrite a network with batch normalization as a normalizer-free one.

    .. math:: y = f(\mathrm{BN}(W * x)) \to \gamma f(\hat W * x + b), \qquad
        x + \mathrm{BN}(F(x)) \to x + \alpha\, g\, F(\beta x)

    - A convolution before batch normalization becomes a :class:`normfree.nn.WSConv2d` with a gain
      and a bias for each channel, grouped and depthwise ones, too.
    - An activation becomes a :class:`normfree.nn.ScaledActivation`.
    - A residual block becomes a :class:`normfree.nn.ResidualBlock` with α, β, the inverse of the
      analytic standard deviation of its input, and a SkipInit gain of zero. Post-activation blocks
      (ResNet), pre-activation blocks, and blocks with linear outputs (MobileNetV2) are known by
      what they compute, not by their names. In a post-activation network, the activation moves from
      the end of a block to the beginning of the next, as in NF-ResNets: the skip path carries the
      sums themselves, and the last block of the chain is followed by an activation.
    - Squeeze-and-excite is doubled.

    Everything else stays: other normalization, batch normalization after linear layers and of the
    images themselves, blocks of another kind. The report lists it.

    Args:
        model: any network whose forward pass does not branch on values; not changed.
        weights: ``"keep"`` keeps the filters, without their mean and scale, and all other layers;
            ``"new"`` draws the converted filters from N(0, 1/fan-in). Statistics, scales and
            shifts of batch normalization are dropped in both cases. The result is a network to be
            trained, not one that computes the same function.
        alpha: :math:`\alpha`, the scale of every residual branch.

    Returns:
        The network and a report. The network has the class, methods and names of the original
        where modules could be replaced one by one; where its forward pass calls activations as
        functions outside of blocks, it is a :class:`torch.fx.GraphModule`. In a block, the branch
        is ``layers`` and the projection is ``shortcut``.

    Raises:
        UserError: there is no batch normalization, the forward pass cannot be followed, or an
            argument is invalid.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> model, report = convert(net)
        >>> print(report)
        Sequential: 1 Conv2d → WSConv2d, 1 BatchNorm2d → removed, 1 ReLU → ScaledActivation
        no batch normalization remains
        >>> model[1], model[2]
        (Identity(), ScaledActivation(relu, gain=1.71396))

    Source: section 3 of the paper; Brock et al., 2021a.
    """
    if weights not in get_args(Weights):
        raise unknown_name("weights", str(weights), get_args(Weights))
    if not 0 < alpha <= 1:
        raise UserError(f"alpha must be in (0, 1]; got {alpha}; the paper takes 0.2")
    _check(model)
    network = copy.deepcopy(model)
    report = Report(type(model).__name__)
    activations, unknown = _convert_blocks(network, report, weights, alpha)
    network = _convert_rest(network, report, weights, activations, unknown)
    report.batch_norms = [n for n, m in network.named_modules() if isinstance(m, BATCH_NORMS)]
    return Converted(network.train(model.training), report)


def _check(model: nn.Module) -> None:
    if any(isinstance(m, ResidualBlock) for m in model.modules()):
        raise UserError(
            f"{type(model).__name__} is a network of this package: create_model makes it without "
            "normalization (normalization='none')"
        )
    if not any(isinstance(m, BATCH_NORMS) for m in model.modules()):
        raise UserError(
            f"{type(model).__name__} has no batch normalization of feature maps: there is nothing "
            "to convert; its activations and weights stay as they are"
        )


def _convert_blocks(
    network: nn.Module, report: Report, weights: Weights, alpha: float
) -> tuple[_Activations, list[str]]:
    """Convert the residual blocks; return their activations, and the names of unknown blocks."""
    traced = trace(network)
    owners = dict.fromkeys(home(node) for node in traced.graph.nodes if is_sum(node))
    activations: _Activations = {}
    unknown = []
    for name in owners:
        if name == "" or any(other.startswith(f"{name}.") for other in owners):
            continue  # a sum of what blocks return
        block = network.get_submodule(name)
        kind = type(block).__name__
        try:
            new, after = converted_block(block, name, report, weights=weights, alpha=alpha)
        except UserError as error:
            report.leave(name, kind, str(error))
            unknown.append(name)
        else:
            activations[name] = after
            network.set_submodule(name, new)
            report.changed(name, kind, type(new).__name__)
    return activations, unknown


def _convert_rest(
    network: nn.Module,
    report: Report,
    weights: Weights,
    activations: _Activations,
    unknown: list[str],
) -> nn.Module:
    """Convert what is around the blocks, and let the blocks know what precedes them."""
    traced = trace(network, frozenset(unknown))
    rest = _Chain(traced, report, weights, activations)
    rest.run()
    if rest.rewritten:
        report.traced = True
        return traced
    for name, layer in rest.replaced.items():
        network.set_submodule(name, layer)
    return network


class _Chain(LayerConversion):
    """Layers between blocks, and the blocks as a chain in which variance accumulates.

    Args:
        traced: graph in which each block is one node.
        report: where changes are noted.
        weights: what becomes of the filters.
        activations: those that followed the sums of the blocks.
    """

    def __init__(
        self,
        traced: fx.GraphModule,
        report: Report,
        weights: Weights,
        activations: _Activations,
    ) -> None:
        super().__init__(traced, report, weights, variance=None, feeds_sum=False)
        self.activations = activations
        self.moved: dict[fx.Node, ScaledActivation] = {}

    def other(self, node: fx.Node, layer: nn.Module | None) -> float | None:
        """Blocks, and sums outside of blocks."""
        if isinstance(layer, ConvertedBlock):
            return self.block(node, layer)
        if _pools(layer) and (source := node.all_input_nodes[0]) in self.moved:
            self.moved[node] = self.moved[source]
        if is_sum(node):
            self.report.leave(home(node) or node.name, "sum", "adds more than a branch; has no α")
        return super().other(node, layer)

    def block(self, node: fx.Node, block: ConvertedBlock) -> float:
        """Set β, the activation before the block, and that after the last block of a chain."""
        if sum(other.target == node.target for other in self.traced.graph.nodes) > 1:
            raise UserError(
                f"block {node.target} is called more than once, with inputs of different variance; "
                "give each call a block of its own"
            )
        (source,) = node.all_input_nodes
        if source in self.moved:
            block.act0 = self.moved[source]
        variance = set_signal(block, self.variances[source] or 1.0)
        activation = self.activations[str(node.target)]
        if activation is not None and self._leads_to_blocks(node):
            self.moved[node] = activation
        elif activation is not None:
            last = nn.Sequential(OrderedDict(block=block, activation=activation))
            self.traced.set_submodule(str(node.target), last)
            self.replaced[str(node.target)] = last
        return variance

    def activate(self, node: fx.Node, activation: nn.Module) -> None:
        """Scale an activation, or move it into the blocks that follow."""
        if self._leads_to_blocks(node):
            assert isinstance(activation, ScaledActivation)
            self.moved[node] = activation
            self.replace(node, nn.Identity())
        else:
            super().activate(node, activation)

    def _leads_to_blocks(self, node: fx.Node) -> bool:
        """Whether all that follows, at once or after pooling, is post-activation blocks."""
        for user in node.users:
            layer = layer_of(self.traced, user)
            if isinstance(layer, ConvertedBlock):
                if self.activations[str(user.target)] is None:
                    return False
            elif not (_pools(layer) and self._leads_to_blocks(user)):
                return False
        return bool(node.users)


def _pools(layer: nn.Module | None) -> bool:
    """Whether an activation may as well follow a layer as precede it."""
    return isinstance(layer, _POOLS) or type(layer).__name__ == "BlurPool2d"  # timm's
