"""Folding a trained network into plain convolutions for deployment.

The network's ``forward`` is traced. Modules with a method ``fold`` are leaves of the trace, and add
their plain equivalents to the folded graph. A new network can be folded if its modules can.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from normfree.errors import UserError
from normfree.models.classifier import ImageClassifier
from normfree.nn.folding import FoldedGraph, Value, affine
from normfree.nn.modes import evaluating


@torch.no_grad()
def fold(model: ImageClassifier) -> fx.GraphModule:
    r"""Rewrite a network in evaluation mode as an equivalent graph of plain ``torch.nn`` layers.

    Weight standardization and filter gains are computed once. The γ of activations, the β of
    blocks, :math:`\alpha` times the SkipInit gain, and the factor 2 of squeeze-and-excite move into
    the weights of neighboring layers:

    .. math:: W * (\beta\gamma f(x)) = (\beta\gamma W) * f(x), \qquad
        \alpha g\, (W_2 * h)\, 2\sigma(z) = \bigl((2 \alpha g\, W_2) * h\bigr)\,\sigma(z)

    The gate :math:`\sigma(z)` is computed from the mean of :math:`W_2 * h`. A 1×1 convolution
    commutes with the mean, so :math:`W_2` is multiplied into the first layer of the gate, which
    then reads the mean of the narrower :math:`h`. This avoids a division by the SkipInit gain,
    which may be zero. Batch normalization after a convolution is merged into it; after a sum it is
    kept. A β before the activation (``beta_place="before"``) is also kept.

    Args:
        model: a trained network, which is not modified.

    Returns:
        A graph of ``nn.Conv2d``, ``nn.Linear``, pooling and activation layers. It keeps the model's
        layer names, device and dtype, is in evaluation mode, and has no gradients. It maps
        normalized images (n, c, h, w) of any size to logits. It supports ``.bfloat16()``,
        ``.to(memory_format=torch.channels_last)``, ``torch.compile`` and ``torch.export``.

    Raises:
        UserError: the model has a layer without a method ``fold``, or its ``forward`` uses other
            operations than layers, sums, constants and the spatial mean. The message names it.

    Example:
        >>> from normfree.models import build_model
        >>> model = build_model("nfnet_pico", num_classes=10).eval()
        >>> x = torch.randn(2, 3, 9, 8)
        >>> torch.allclose(fold(model)(x), model(x), atol=1e-6)
        True
    """
    if not isinstance(model, ImageClassifier):
        raise UserError(f"fold expects a normfree network, not a {type(model).__name__}")
    with evaluating(model):
        traced = _trace(model)
    graph = FoldedGraph(f"Folded{type(model).__name__}", next(model.parameters()).dtype)
    _Folder(model, traced, graph).run()
    _fuse_batch_norms(graph.module)
    return graph.module.eval().requires_grad_(False)


class _Tracer(fx.Tracer):
    """A tracer whose leaves are modules with a method ``fold`` and PyTorch's own layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return hasattr(m, "fold") or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        return tracer.trace(model)
    except (fx.proxy.TraceError, TypeError) as error:
        inside = list(getattr(tracer, "module_stack", {}).values())
        raise UserError(f"fold cannot follow {_called(inside, model)}: {error}") from error


def _called(stack: list[tuple[str, Any]], model: nn.Module) -> str:
    """The innermost module of a stack, for error messages, such as ``stages.0.0, a NFBlock``."""
    if not stack:
        return type(model).__name__
    name, kind = stack[-1]
    return f"{name}, of type {kind.__name__}"


class _Folder(fx.Interpreter):
    """Interprets the traced network on values that build the folded graph."""

    def __init__(self, model: nn.Module, traced: fx.Graph, graph: FoldedGraph) -> None:
        super().__init__(model, garbage_collect_values=False, graph=traced)
        self.extra_traceback = False
        self.model, self.folded = model, graph
        self.node: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Value | None:
        """The images; keys are not used in evaluation mode."""
        return self.folded.placeholder(target) if target == "x" else None

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> float:
        """Treat a learned scalar, such as a SkipInit gain, as a constant."""
        value = self.fetch_attr(target)
        if not isinstance(value, Tensor) or value.ndim:
            raise self._refusal(f"parameter {target}")
        return value.item()

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Fold a module by its own method."""
        part: Any = self.fetch_attr(target)
        if hasattr(part, "fold"):
            return part.fold(self.folded, target, *args, **kwargs)
        if isinstance(part, nn.Identity):
            return args[0]
        if isinstance(part, nn.Linear):
            weight, bias = affine(part)
            x = args[0].written()
            return Value(self.folded.linear(target, weight * x.scale, bias, x.value))
        raise UserError(
            f"cannot fold a layer of type {type(part).__name__} ({target}); give it a method "
            "fold(graph, name, x)"
        )

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Fold sums of values, and products with constants."""
        values = [argument for argument in args if isinstance(argument, Value)]
        if target is operator.add and len(values) == 2:
            return values[0] + values[1]
        if target is operator.mul and len(values) < 2:
            return args[0] * args[1]
        if target is torch.addcmul and len(values) == 2:
            return args[0] + args[1] * args[2]
        raise self._refusal(f"operation {getattr(target, '__name__', target)}")

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Fold the spatial mean."""
        if target != "mean":
            raise self._refusal(f"operation {target}")
        return args[0].mean(*args[1:], **kwargs)

    def output(self, target: Any, args: Any, kwargs: Any) -> None:
        """The logits."""
        self.folded.module.graph.output(args[0].proxy().node)
        self.folded.module.recompile()

    def _refusal(self, what: str) -> UserError:
        stack = {} if self.node is None else self.node.meta.get("nn_module_stack", {})
        return UserError(
            f"cannot fold {what} in {_called(list(stack.values()), self.model)}; move it into a "
            "module with a method fold(graph, name, x)"
        )


def _fuse_batch_norms(folded: fx.GraphModule) -> None:
    """Merge every batch normalization of a convolution's output into the convolution."""
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
