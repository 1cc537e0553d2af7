"""ONNX files that refer to other files, loop, or declare more than they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import normfree
from normfree.errors import UserError
from normfree.inference import export_model
from tests.unit.inference.test_export import CARD, network


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_model(network(), path, CARD)
    return path.read_bytes()


def _external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"


def _hidden(model: Any) -> None:
    """Hidden in an attribute, where a check of the initializers alone would miss it."""
    node = model.graph.node.add(op_type="Constant", output=["x"])
    tensor = onnx.helper.make_tensor("x", onnx.TensorProto.FLOAT, [1], [0.0])
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _loop(model: Any) -> None:
    model.graph.node.add(op_type="Loop", input=["", ""], output=["x"])


def _graph(model: Any) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", body))


def _foreign(model: Any) -> None:
    model.graph.node[0].domain = "com.example"


def _declared(model: Any) -> None:
    model.graph.initializer[0].dims[0] = 2**40 - 1


def _padded(model: Any) -> None:
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.attribute.append(onnx.helper.make_attribute("pads", [10**6] * 4))


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "another file": (_external, "is in another file, which is not opened"),
    "another file, hidden": (_hidden, "is in another file, which is not opened"),
    "a loop": (_loop, "operator 'Loop'"),
    "a graph in a graph": (_graph, "nested graphs"),
    "an operator of others": (_foreign, "which no network here needs"),
    "numbers that are not there": (_declared, "does not match its shape"),
    "padding without end": (_padded, "pads are out of bounds"),
}


@pytest.mark.parametrize("kind", list(CHANGES))
def test_it_is_refused(kind: str, exported: bytes, tmp_path: Path) -> None:
    change, message = CHANGES[kind]
    model = onnx.ModelProto.FromString(exported)
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=message):
        normfree.load(path)
