"""Checks of an ``.onnx`` file before it is passed to ONNX Runtime.

A graph may refer to other files, loop, and declare tensors of any size. A graph that passes these
checks is self-contained, has only operators of folded networks, and its data matches the declared
shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from normfree.errors import UserError
from normfree.weights import KEY
from normfree.weights.unpickle import Refused, check, shown

_MAX_NODES = 50_000
_OPERATORS = frozenset(
    {
        *("Conv", "Gemm", "MatMul", "AveragePool", "MaxPool", "GlobalAveragePool", "ReduceMean"),
        *("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "Exp", "Erf", "Abs", "Min", "Max"),
        *("Relu", "Gelu", "Sigmoid", "Tanh", "Elu", "Celu", "Selu", "LeakyRelu", "Softplus"),
        *("Softsign", "HardSigmoid", "HardSwish", "Mish", "Clip", "Softmax", "LogSoftmax", "Log"),
        *("Sin", "Cos", "Where", "Less", "Greater", "Identity", "Constant", "Cast", "Swish"),
        *("Unsqueeze", "Squeeze", "Flatten", "Reshape", "Transpose", "Concat", "Slice", "Pad"),
        *("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ReduceSum"),
        *("Reciprocal", "Sign", "Split", "Shape", "Gather", "LayerNormalization"),
    }
)
#: Attributes that can make an output larger than its input → largest allowed value.
_BOUNDED = {"pads": 64, "kernel_shape": 64, "strides": 64, "dilations": 64}
#: ONNX element type → bits; networks here have no other types.
_BITS = {
    **{2: 8, 3: 8, 9: 8},  # uint8, int8, bool
    **{4: 16, 5: 16, 10: 16, 16: 16},  # uint16, int16, float16, bfloat16
    **{1: 32, 6: 32, 12: 32, 7: 64, 11: 64, 13: 64},  # float, int32, uint32; int64, double, uint64
}


def check_model(content: bytes, onnx: Any, source: str) -> str:
    """Check a file and return the JSON of its card.

    Args:
        content: contents of the file.
        onnx: the ``onnx`` package.
        source: name of the file in messages.

    Raises:
        UserError: the file is damaged, was not written by normfree, or refers to other files.
    """
    try:
        model = onnx.ModelProto.FromString(content)  # opens no other file, unlike onnx.load
        cards = [entry.value for entry in model.metadata_props if entry.key == KEY]
        if len(cards) != 1:
            raise UserError(f"{source} was not written by normfree export: it has no card")
        _check_graph(model, onnx)
        onnx.checker.check_model(content)
        return str(cards[0])
    except Refused as reason:
        raise UserError(f"{source} is refused: {reason}") from None
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the exceptions of protobuf and of the checker have no common base
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{source} is damaged or not an ONNX file: {said}") from None


def _check_graph(model: Any, onnx: Any) -> None:
    graph = model.graph
    check(not model.functions and not model.training_info, "it defines operators of its own")
    check(not graph.sparse_initializer, "it has sparse weights")
    check(len(graph.node) <= _MAX_NODES, f"it has more than {_MAX_NODES:,} nodes")
    for node in graph.node:
        known = node.domain in ("", "ai.onnx") and node.op_type in _OPERATORS
        check(known, f"it has the operator {shown(node.op_type)}, which no network here needs")
        for attribute in node.attribute:
            _check_attribute(attribute, onnx)
    for tensor in _tensors(graph):
        _check_tensor(tensor, onnx)
    inputs = [taken.name for taken in graph.input]
    check(inputs == ["images"] and len(graph.output) == 1, "it has other inputs or outputs")


def _check_attribute(attribute: Any, onnx: Any) -> None:
    graphs = attribute.HasField("g") or attribute.graphs or attribute.HasField("sparse_tensor")
    check(not graphs and not attribute.sparse_tensors, "it has nested graphs or sparse tensors")
    most = _BOUNDED.get(attribute.name)
    if most is not None:
        bounded = all(0 <= value <= most for value in attribute.ints)
        check(bounded, f"its {attribute.name} are out of bounds")


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t


def _check_tensor(tensor: Any, onnx: Any) -> None:
    """Check that a tensor's data is in the file and matches its shape."""
    name = shown(tensor.name)
    external = tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
    check(not external, f"its tensor {name} is in another file, which is not opened")
    check(tensor.data_type in _BITS, f"its tensor {name} is of an unknown type")
    possible = len(tensor.dims) <= 16 and all(0 <= side < 2**40 for side in tensor.dims)
    check(possible, f"its tensor {name} has an invalid shape")
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        held, declared = len(tensor.raw_data), count * _BITS[tensor.data_type] // 8
    else:
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        held, declared = max(len(getattr(tensor, field)) for field in fields), count
    check(held == declared, f"the data of its tensor {name} does not match its shape")
