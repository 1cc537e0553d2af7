"""A trained network as plain convolutions: what to deploy.

Everything but the activations of a normalizer-free network is linear, so every constant can move
into the weights of the next convolution. A value of the folded network is therefore written as
:math:`s\\,v`: the graph computes :math:`v`, and the constant :math:`s` waits for a layer to take it.
"""

from __future__ import annotations

import copy
from functools import partial, singledispatchmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from normfree.errors import UserError
from normfree.models.classifier import ImageClassifier
from normfree.models.nf_resnet import ResNetStem
from normfree.models.nfnet import Stem
from normfree.nn import BatchNormActivation, NFBlock, SameConv2d, ScaledActivation, Shortcut

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


def fold(model: ImageClassifier) -> fx.GraphModule:
    r"""The same function, in evaluation, from plain ``torch.nn`` layers.

    Weight standardization and the gains of the filters are computed once. The activations' γ, the
    blocks' β, :math:`\alpha` times the SkipInit gain and squeeze-and-excite's 2 move into the
    weights of the neighbouring convolutions and linear layers:

    .. math:: W * (\beta\gamma f(x)) = (\beta\gamma W) * f(x), \qquad
        \alpha g\, 2\sigma(z)\,(W_2 * h) = \sigma(z)\,\big((2 \alpha g\, W_2) * h\big)

    The gate's first layer saw the mean of :math:`W_2 * h`. A 1×1 convolution and the mean commute,
    so it is multiplied by :math:`W_2` and sees the mean of the narrower :math:`h`: nothing is
    divided by a SkipInit gain, which may be zero. Batch normalization that follows a convolution is
    multiplied into it; where it follows a sum it stays an ``nn.BatchNorm2d``.

    Args:
        model: a trained network; left as it was.

    Returns:
        A :class:`torch.fx.GraphModule` of ``nn.Conv2d``, ``nn.Linear`` and activation layers, in
        evaluation mode, without gradients, on the model's device and in its dtype. It takes images
        (n, c, h, w) of any size and gives logits. Layers keep the model's names. For speed, call
        ``.to(memory_format=torch.channels_last)`` or ``.bfloat16()`` on it, or compile it.

    Raises:
        UserError: a layer of the model is none that can be folded.

    Example:
        >>> import normfree
        >>> model = normfree.create_model("nfnet_pico", num_classes=10).eval()
        >>> x = torch.randn(2, 3, 9, 8)
        >>> torch.allclose(normfree.fold(model)(x), model(x), atol=1e-6)
        True
    """
    if not isinstance(model, ImageClassifier):
        raise UserError(f"fold takes a network of normfree, not {type(model).__name__}")
    with torch.no_grad():
        builder = _Builder(model)
        folded = builder.build()
        _fuse_batch_norms(folded)
    return folded.eval().requires_grad_(False)


class _Scaled(NamedTuple):
    """A value of the network: ``scale`` times what the graph computes."""

    value: fx.Proxy
    scale: float = 1.0

    def multiplied(self) -> fx.Proxy:
        return self.value if self.scale == 1 else self.value * self.scale


class _Builder:
    """Walks the model and writes the graph of its plain twin."""

    def __init__(self, model: ImageClassifier) -> None:
        self.model = model
        self.names = {module: name for name, module in model.named_modules()}
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.tracer = fx.proxy.GraphAppendingTracer(self.graph)

    def build(self) -> fx.GraphModule:
        model = self.model
        x = _Scaled(fx.Proxy(self.graph.placeholder("x"), self.tracer))
        for module in (model.stem, *(block for stage in model.stages for block in stage)):  # type: ignore[attr-defined]
            x = self.add(module, x)
        x = self.add(model.head, x)
        x = _Scaled(x.value.mean((2, 3)), x.scale)
        if isinstance(model.classifier, nn.Linear):
            weight, bias = model.classifier.weight, model.classifier.bias
            x = _Scaled(self.linear("classifier", weight.double() * x.scale, bias.double(), x))
        self.graph.output(x.multiplied().node)
        return fx.GraphModule(self.root, self.graph, f"Folded{type(model).__name__}")

    def call(self, name: str, layer: nn.Module, x: fx.Proxy) -> fx.Proxy:
        """Put a layer into the folded network, under a name of the model's, and apply it."""
        if name not in dict(self.root.named_modules()):
            parent = self.root
            *path, last = name.split(".")
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = getattr(parent, part)
            parent.add_module(last, layer)
        return fx.Proxy(self.graph.call_module(name, (x.node,)), self.tracer)

    @singledispatchmethod
    def add(self, module: nn.Module, x: _Scaled) -> _Scaled:
        """Write what a module of the model does to a value."""
        raise UserError(f"cannot fold a layer of type {type(module).__name__}")

    @add.register
    def _(self, module: Stem | nn.Sequential, x: _Scaled) -> _Scaled:
        for layer in module.children():
            x = self.add(layer, x)
        return x

    @add.register
    def _(self, module: ResNetStem, x: _Scaled) -> _Scaled:
        value = self.add(module.conv, x).value
        padded = F.pad(value, _same_padding(value, 3), value=-torch.inf)
        return _Scaled(F.max_pool2d(padded, 3, 2))

    @add.register
    def _(self, module: ScaledActivation, x: _Scaled) -> _Scaled:
        value = x.multiplied()
        if module.name in PLAIN_ACTIVATIONS:
            layer = PLAIN_ACTIVATIONS[module.name]()
            return _Scaled(self.call(self.names[module], layer, value), module.gain)
        return _Scaled(module.function(value), module.gain)  # type: ignore[arg-type]

    @add.register
    def _(self, module: BatchNormActivation, x: _Scaled) -> _Scaled:
        norm = self.call(self.names[module.norm], copy.deepcopy(module.norm), x.multiplied())
        return self.add(module.activation, _Scaled(norm))

    @add.register
    def _(self, module: Shortcut, x: _Scaled) -> _Scaled:
        if module.pool:
            pooled = F.avg_pool2d(x.value, 2, 2, ceil_mode=True, count_include_pad=False)  # type: ignore[arg-type]
            x = _Scaled(pooled, x.scale)  # type: ignore[arg-type]
        return self.add(module.conv, x)

    @add.register
    def _(self, module: SameConv2d, x: _Scaled) -> _Scaled:
        return self.convolution(module, x)

    @add.register
    def _(self, block: NFBlock, x: _Scaled) -> _Scaled:
        a = self.add(block.act0, x)
        a = _Scaled(a.value, a.scale * block.beta)
        skip = x.multiplied() if block.shortcut is None else self.add(block.shortcut, a).value
        k = 1.0 if block.skip_gain is None else block.alpha * block.skip_gain.item()
        h = self.add(block.act1, self.add(block.conv0, a))
        if block.conv1b is not None:
            h = self.add(block.act1b, self.add(block.conv1, h))
            last = block.conv1b
        else:
            last = block.conv1
        se = block.squeeze_excite
        if se is None:
            h = self.add(block.act2, self.add(last, h))
            return _Scaled(skip + self.convolution(block.conv2, h, k).value)
        if block.se_place == "bottleneck":
            u = self.convolution(last, h, se.factor).value
            gate = self.gate(block, _Scaled(u, 1 / se.factor))
            h = self.add(block.act2, _Scaled(u * gate))
            return _Scaled(skip + self.convolution(block.conv2, h, k).value)
        h = self.add(block.act2, self.add(last, h))
        branch = self.convolution(block.conv2, h, k * se.factor).value
        return _Scaled(torch.addcmul(skip, branch, self.gate(block, h)))  # type: ignore[call-overload]
