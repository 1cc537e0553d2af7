"""Forms that another program computes from a graph: ONNX Runtime and OpenVINO."""

from __future__ import annotations

from torch import nn

from normfree.inference.forms.form import Example
from normfree.inference.onnx_file import OnnxNetwork
from normfree.inference.openvino_network import OpenVinoNetwork

_NAME = "the network"


def onnx(example: Example) -> nn.Module:
    """Float32 in ONNX Runtime."""
    return OnnxNetwork(example.onnx, _NAME, str(example.images.device))


def onnx_int8(example: Example) -> nn.Module:
    """Static int8 in ONNX Runtime."""
    return OnnxNetwork(example.onnx_int8, _NAME, str(example.images.device))


def openvino(example: Example) -> nn.Module:
    """Float32 in OpenVINO."""
    return _prepared(OpenVinoNetwork(example.onnx, _NAME), example)


def openvino_bfloat16(example: Example) -> nn.Module:
    """Bfloat16 in OpenVINO."""
    return _prepared(OpenVinoNetwork(example.onnx, _NAME, bfloat16=True), example)


def openvino_int8(example: Example) -> nn.Module:
    """Static int8 in OpenVINO."""
    return _prepared(OpenVinoNetwork(example.onnx_int8, _NAME), example)


def _prepared(network: OpenVinoNetwork, example: Example) -> nn.Module:
    """Compile for the shape of the example's images."""
    network(example.images)
    return network
