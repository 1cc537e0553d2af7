"""The folded network on oneDNN's own convolutions.

PyTorch's convolution converts plain weights to oneDNN's blocked layout in every call, which at a
small batch takes up to 40 % of the time. Here weights are converted once, and the activation that
follows a convolution is computed on its output while that is in cache. The other elementwise
operations reuse the memory of their input.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from normfree.inference.forms import eager
from normfree.inference.forms.form import Example


class Epilogue(NamedTuple):
    """An activation as oneDNN names it."""

    name: str = "none"
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


#: Plain layer → the activation that a convolution can compute on its output.
EPILOGUES: dict[type[nn.Module], Callable[[Any], Epilogue]] = {
    nn.GELU: lambda layer: Epilogue("gelu", (), layer.approximate),
    nn.ReLU: lambda layer: Epilogue("relu"),
    nn.SiLU: lambda layer: Epilogue("swish"),
    nn.Sigmoid: lambda layer: Epilogue("sigmoid"),
    nn.Tanh: lambda layer: Epilogue("tanh"),
    nn.Hardswish: lambda layer: Epilogue("hardswish"),
}


class PackedConv2d(nn.Module):
    """A convolution with its weights in oneDNN's layout, and an activation of its output.

    .. math:: f(W * x + b)

    Args:
        conv: a plain convolution in channels-last memory.
        shape: of the input that the layout is best for; inputs of other shapes give the same.
        epilogue: the activation f; None for the identity.
    """

    def __init__(
        self, conv: nn.Conv2d, shape: tuple[int, ...], epilogue: Epilogue | None = None
    ) -> None:
        super().__init__()
        if not isinstance(conv.padding, tuple):
            raise AssertionError
        self.geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
        # The layout is opaque: neither a parameter nor a buffer.
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.detach(), *self.geometry, shape
        )
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.epilogue = epilogue or Epilogue()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k u v"]:
        """The activated convolution."""
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self.geometry, *self.epilogue
        )


def lacks(example: Example) -> str:
    """What this PyTorch lacks."""
    known = torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_convolution_pointwise"
    )
    return "" if known else "this PyTorch was built without oneDNN"


@torch.no_grad()
def prepacked(example: Example) -> fx.GraphModule:
    """Channels last, with packed weights."""
    return pack(eager.channels_last(example), example.images)


@torch.no_grad()
def prepacked_bfloat16(example: Example) -> fx.GraphModule:
    """Channels last in bfloat16, with packed weights."""
    return pack(eager.bfloat16(example), example.images)


def pack(network: fx.GraphModule, images: Float[Tensor, "n c h w"]) -> fx.GraphModule:
    """Pack the convolutions of a folded network in place, and compute in place what can be.

    Args:
        network: folded, in channels-last memory, in evaluation mode.
        images: a batch of the shape that the network is packed for.

    Example:
        >>> from normfree.models import build_model
        >>> model = build_model("nfnet_pico", num_classes=10).eval()
        >>> example = Example(model, torch.randn(2, 3, 9, 8))
        >>> packed = pack(eager.channels_last(example), example.images)
        >>> x = torch.randn(5, 3, 9, 8)
        >>> torch.allclose(packed(x), model(x), atol=1e-5)
        True
    """
    ShapeProp(network).propagate(images)
    for node in list(network.graph.nodes):
        layer = _layer(network, node)
        if isinstance(layer, nn.Conv2d):
            epilogue = _take_epilogue(network, node)
            shape = tuple(node.args[0].meta["tensor_meta"].shape)
            network.set_submodule(node.target, PackedConv2d(layer, shape, epilogue))
    for node in network.graph.nodes:
        _compute_in_place(network, node)
    network.graph.lint()
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def _layer(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _take_epilogue(network: fx.GraphModule, conv: fx.Node) -> Epilogue:
    """Remove the activation after a convolution from the graph, and return it."""
    users = list(conv.users)
    layer = _layer(network, users[0]) if len(users) == 1 else None
    made = EPILOGUES.get(type(layer)) if layer is not None else None
    if made is None:
        return Epilogue()
    users[0].replace_all_uses_with(conv)
    network.graph.erase_node(users[0])
    return made(layer)


def _compute_in_place(network: fx.GraphModule, node: fx.Node) -> None:
    """Write the result of an elementwise operation over an input that nothing else reads."""
    match node.target:
        case torch.addcmul if _is_free(network, node.args[1], node):
            node.target = gated_sum_
        case operator.mul | torch.mul if _is_free(network, node.args[0], node):
            node.target = operator.imul
        case F.pad if node.kwargs.get("value") == 0:
            node.target, node.kwargs = pad_zeros, {}
        case _:
            layer = _layer(network, node)
            if isinstance(layer, nn.GELU) and _is_free(network, node.args[0], node):
                node.op, node.target = "call_function", torch.ops.aten.gelu_
                node.kwargs = {"approximate": layer.approximate}


def _is_free(network: fx.GraphModule, value: Any, reader: fx.Node) -> bool:
    """Whether a value is read by this node only, and is no view of another value."""
    if not isinstance(value, fx.Node) or list(value.users) != [reader]:
        return False
    fresh = (torch.addcmul, gated_sum_, operator.add, operator.imul, torch.ops.aten.gelu_)
    return isinstance(_layer(network, value), PackedConv2d) or value.target in fresh


def gated_sum_(
    skip: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], gate: Float[Tensor, "n c 1 1"]
) -> Float[Tensor, "n c h w"]:
    """``skip + x · gate``, written over ``x``.

    >>> x = torch.ones(1, 2, 3, 3)
    >>> y = gated_sum_(torch.full((1, 2, 3, 3), 2.0), x, torch.full((1, 2, 1, 1), 3.0))
    >>> y is x, y.unique()
    (True, tensor([5.]))
    """
    return torch.addcmul(skip, x, gate, out=x)


def pad_zeros(x: Float[Tensor, "n c h w"], padding: list[int]) -> Float[Tensor, "n c u v"]:
    """Zero padding of the last two axes that writes every value once.

    Differs from: ``F.pad``, which fills the whole result with zeros first.

    >>> x = torch.randn(2, 3, 4, 5)
    >>> torch.equal(pad_zeros(x, [0, 1, 2, 1]), F.pad(x, [0, 1, 2, 1]))
    True
    """
    left, right, top, bottom = padding
    n, c, h, w = x.shape
    padded = x.new_empty(n, h + top + bottom, w + left + right, c).permute(0, 3, 1, 2)
    padded[:, :, :top] = 0
    padded[:, :, top + h :] = 0
    padded[:, :, :, :left] = 0
    padded[:, :, :, left + w :] = 0
    padded[:, :, top : top + h, left : left + w] = x
    return padded
