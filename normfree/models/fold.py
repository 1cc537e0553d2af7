"""A trained network as plain convolutions: what to deploy.

Everything but the activations of a normalizer-free network is linear, so every constant can move
into the weights of the next convolution. A value of the folded network is therefore written as
a :class:`_Scaled`: what the graph computes, and a constant that waits for a layer to take it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from normfree.errors import UserError
from normfree.models.classifier import ImageClassifier
from normfree.models.dct_stem import DCTStem
from normfree.models.nf_resnet import ResNetStem
from normfree.models.nfnet import Stem
from normfree.nn import (
    BatchNormActivation,
    NFBlock,
    SameConv2d,
    ScaledActivation,
    Shortcut,
    SqueezeExcite,
)

#: A tensor of the graph that is being written: an :class:`torch.fx.Proxy`, which records what is
#: done to it. Its operators are made at run time, so a type checker knows none of them.
Value: TypeAlias = Any

#: Name of an activation → the plain layer that computes it.
PLAIN_ACTIVATIONS: dict[str, Any] = {
    "identity": nn.Identity,
    "celu": nn.CELU,
    "elu": nn.ELU,
    "gelu": partial(nn.GELU, approximate="tanh"),
    "leaky_relu": nn.LeakyReLU,
    "log_sigmoid": nn.LogSigmoid,
    "log_softmax": partial(nn.LogSoftmax, dim=1),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "soft_sign": nn.Softsign,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


@torch.no_grad()
def fold(model: ImageClassifier) -> fx.GraphModule:
    r"""The same function, in evaluation, from plain ``torch.nn`` layers.

    Weight standardization and the gains of the filters are computed once. The activations' γ, the
    blocks' β, :math:`\alpha` times the SkipInit gain and squeeze-and-excite's 2 move into the
    weights of the neighbouring layers:

    .. math:: W * (\beta\gamma f(x)) = (\beta\gamma W) * f(x), \qquad
        \alpha g\, (W_2 * h)\, 2\sigma(z) = \big((2 \alpha g\, W_2) * h\big)\,\sigma(z)

    The gate :math:`\sigma(z)` is computed from the mean of :math:`W_2 * h`. A 1×1 convolution and
    the mean commute, so the gate's first layer is multiplied by :math:`W_2` and sees the mean of
    the narrower :math:`h`; nothing has to be divided by a SkipInit gain, which may be zero. Batch
    normalization after a convolution is multiplied into it; after a sum it stays what it is.

    Args:
        model: a trained network; left as it was.

    Returns:
        A graph of ``nn.Conv2d``, ``nn.Linear``, pooling and activation layers, under the model's
        names, on its device and in its dtype, in evaluation mode and without gradients. It takes
        normalised images (n, c, h, w) of any size to logits. ``.bfloat16()``,
        ``.to(memory_format=torch.channels_last)``, ``torch.compile`` and ``torch.export`` apply.

    Raises:
        UserError: the model has a layer that cannot be folded.

    Example:
        >>> from normfree.models import build_model
        >>> model = build_model("nfnet_pico", num_classes=10).eval()
        >>> x = torch.randn(2, 3, 9, 8)
        >>> torch.allclose(fold(model)(x), model(x), atol=1e-6)
        True
    """
    if not isinstance(model, ImageClassifier):
        raise UserError(f"fold takes a network of normfree, not a {type(model).__name__}")
    folded = _Builder(model).build()
    _fuse_batch_norms(folded)
    return folded.eval().requires_grad_(False)


class _Scaled(NamedTuple):
    """A value of the network: ``scale`` times what the graph computes."""

    value: Value
    scale: float = 1.0

    def product(self) -> Value:
        return self.value if self.scale == 1 else self.value * self.scale


class _Builder:
    """Walks through the model and writes the graph of its plain twin."""

    def __init__(self, model: ImageClassifier) -> None:
        self.model = model
        self.dtype = next(model.parameters()).dtype
        self.names = {module: name for name, module in model.named_modules()}
        self.folded = fx.GraphModule(nn.Module(), fx.Graph(), f"Folded{type(model).__name__}")
        self.tracer = fx.proxy.GraphAppendingTracer(self.folded.graph)

    def build(self) -> fx.GraphModule:
        model, graph = self.model, self.folded.graph
        blocks = [block for stage in model.stages for block in stage]  # type: ignore[attr-defined]
        x = _Scaled(fx.Proxy(graph.placeholder("x"), self.tracer))
        for part in (model.stem, *blocks, model.head):
            x = self.add(part, x)
        x = _Scaled(x.value.mean((2, 3)), x.scale)
        if isinstance(model.classifier, nn.Linear):
            weight, bias = _affine(model.classifier)
            x = _Scaled(self.linear("classifier", weight * x.scale, bias, x.value))
        graph.output(x.product().node)
        self.folded.recompile()
        return self.folded

    def add(self, module: nn.Module, x: _Scaled) -> _Scaled:
        """Write what a module of the model does to a value."""
        name = self.names[module]
        match module:
            case NFBlock():
                return self.block(module, x)
            case SameConv2d():
                return _Scaled(self.convolution(module, x))
            case ScaledActivation():
                return self.activation(module, x)
            case BatchNormActivation():
                norm = copy.deepcopy(module.norm).eval()
                value = self.call(f"{name}.norm", norm, x.product())
                return self.activation(module.activation, _Scaled(value))
            case ResNetStem():
                x = _Scaled(_pad_same(self.convolution(module.conv, x), (3, 3), (2, 2), -torch.inf))
                return _Scaled(self.call(f"{name}.pool", nn.MaxPool2d(3, 2), x.value))
            case Stem() | DCTStem() | nn.Sequential():
                for layer in module.children():
                    x = self.add(layer, x)
                return x
        raise UserError(f"fold knows no layer of type {type(module).__name__}")

    def block(self, block: NFBlock, x: _Scaled) -> _Scaled:
        """The skip path plus the branch, with the branch's constants in its last convolution."""
        a = self.add(block.act0, x)
        a = _Scaled(a.value, a.scale * block.beta)
        skip = x.product() if block.shortcut is None else self.shortcut(block.shortcut, a)
        gain = 1.0 if block.skip_gain is None else block.skip_gain.item() * block.alpha

        x, last = self.add(block.act1, self.add(block.conv0, a)), block.conv1
        if block.second_conv:
            x, last = self.add(block.act1b, self.add(last, x)), block.conv1b
        if block.se_place == "bottleneck":
            se = block.squeeze_excite
            y = self.convolution(last, x, se.factor)
            x = _Scaled(y * self.gate(se, _Scaled(y, 1 / se.factor)))
        else:
            x = self.add(last, x)
        x = self.add(block.act2, x)
        if block.se_place in ("none", "bottleneck"):
            return _Scaled(skip + self.convolution(block.conv2, x, gain))
        se = block.squeeze_excite
        gate = self.gate(se, x, through=block.conv2 if block.se_place == "output" else None)
        branch = self.convolution(block.conv2, x, gain * se.factor)
        return _Scaled(torch.addcmul(skip, branch, gate))

    def shortcut(self, shortcut: Shortcut, a: _Scaled) -> Value:
        """A projection; the mean before it leaves constants alone."""
        if shortcut.pool:
            layer = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
            a = _Scaled(self.call(f"{self.names[shortcut]}.pool", layer, a.value), a.scale)
        return self.convolution(shortcut.conv, a)

    def gate(self, se: SqueezeExcite, h: _Scaled, through: SameConv2d | None = None) -> Value:
        """σ(z) for z computed from the mean of ``h``, or of a 1×1 convolution of it."""
        weight, bias = _affine(se.fc0)
        if through is not None:
            first, shift = _affine(through)
            bias = bias + weight @ shift
            weight = weight @ torch.block_diag(*first.flatten(1).chunk(through.groups))
        name = self.names[se]
        hidden = self.linear(f"{name}.fc0", weight * h.scale, bias, h.value.mean((2, 3)))
        z = self.linear(f"{name}.fc1", *_affine(se.fc1), hidden.relu())
        return z.sigmoid()[:, :, None, None]

    def activation(self, module: ScaledActivation, x: _Scaled) -> _Scaled:
        """The bare function; its gain waits for the next layer."""
        if module.name not in PLAIN_ACTIVATIONS:
            return _Scaled(module.function(x.product()), module.gain)
        layer = PLAIN_ACTIVATIONS[module.name]()
        return _Scaled(self.call(self.names[module], layer, x.product()), module.gain)

    def convolution(self, conv: SameConv2d, x: _Scaled, gain: float = 1.0) -> Value:
        """A plain convolution of a scaled value, times ``gain``."""
        weight, bias = _affine(conv)
        value, padding = self.padded(x.value, conv) if conv.same else (x.value, conv.padding)
        layer = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            device="meta",
        )
        layer.weight = self.parameter(weight * (x.scale * gain))
        layer.bias = self.parameter(bias * gain)
        return self.call(self.names[conv], layer, value)

    def padded(self, x: Value, conv: SameConv2d) -> tuple[Value, tuple[int, int]]:
        """``SAME`` padding: by the convolution itself where both sides always get the same."""
        spans = [(k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
        if all(
            span == 1 or (span % 2 and s == 1) for span, s in zip(spans, conv.stride, strict=True)
        ):
            return x, (spans[0] // 2, spans[1] // 2)
        return _pad_same(x, spans, conv.stride), (0, 0)

    def linear(self, name: str, weight: Tensor, bias: Tensor, x: Value) -> Value:
        """A linear layer with these parameters."""
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        layer.weight, layer.bias = self.parameter(weight), self.parameter(bias)
        return self.call(name, layer, x)

    def parameter(self, value: Tensor) -> nn.Parameter:
        """A parameter of the folded network, in the model's dtype."""
        return nn.Parameter(value.to(self.dtype, copy=True), requires_grad=False)

    def call(self, name: str, layer: nn.Module, x: Value) -> Value:
        """Put a plain layer into the folded network and apply it."""
        self.folded.add_submodule(name, layer)
        return fx.Proxy(self.folded.graph.call_module(name, (x.node,)), self.tracer)


def _affine(layer: SameConv2d | nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias as they are applied, in float32 at least."""
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    if layer.weight.dtype != dtype:
        layer = copy.deepcopy(layer).to(dtype)
    weight = layer.applied_weight() if isinstance(layer, SameConv2d) else layer.weight
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias


def _pad_same(x: Value, spans: Sequence[int], strides: Sequence[int], value: float = 0.0) -> Value:
    """``SAME`` padding for a window that spans at least its stride.

    In all, the ``span − stride`` by which windows overlap and what size lacks to a multiple of the
    stride; the larger half after. Sizes are read when the graph runs: it takes any.
    """
    padding: list[Value] = []
    for axis, span, stride in zip((2, 3), spans, strides, strict=True):
        if span < stride:
            raise UserError(f"fold knows no SAME padding for windows of {span} at stride {stride}")
        total = -x.size(axis) % stride + (span - stride)
        before = total // 2
        padding = [before, total - before, *padding]
    return F.pad(x, padding, value=value)


def _fuse_batch_norms(folded: fx.GraphModule) -> None:
    """Multiply every normalization of a convolution's output into the convolution."""
    layers = dict(folded.named_modules())
    for node in folded.graph.nodes:
        norm = layers.get(str(node.target))
        if node.op != "call_module" or not isinstance(norm, nn.BatchNorm2d):
            continue
        (before,) = node.all_input_nodes
        conv = layers.get(str(before.target))
        if before.op == "call_module" and isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            folded.set_submodule(str(before.target), fuse_conv_bn_eval(conv.eval(), norm))
            node.replace_all_uses_with(before)
            folded.graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
