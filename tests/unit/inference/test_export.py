from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.inference import export_model, onnx_file, open_exported
from normfree.models import ImageClassifier, build_model
from normfree.weights import KEY, load_model, plain_card, save_model

CARD = {
    "classes": ["a", "b", "ç"],
    "mean": [100.0],
    "std": [50.0],
    "test_size": 9,
    "test_margin": 2,
    "resize": "bicubic",
    "data": None,
}


#: What a file of it says; what is not known is left out.
SAID = {name: value for name, value in CARD.items() if value is not None}


def network(**fields: object) -> ImageClassifier:
    """A network with active residual branches, for images with an odd side."""
    torch.manual_seed(0)
    model = build_model("nfnet_pico", **({"num_classes": 3, "in_channels": 1} | fields)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("skip_gain"):
            nn.init.constant_(parameter, 0.7)
    return model


def images(count: int, size: int = 9) -> Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=[".onnx", ".pt2"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / f"new/model{request.param}"
    export_model(network(), path, CARD)
    return path


@torch.no_grad()
def test_a_graph_computes_the_same_for_any_number_of_images(graph: Path) -> None:
    exported, _ = open_exported(graph, trusted=True)
    exported.eval()
    for count in (1, 2, 7):
        x = images(count)
        torch.testing.assert_close(exported(x), network()(x), rtol=0, atol=2e-6)


def test_a_graph_says_how_to_feed_it(graph: Path) -> None:
    _, card = open_exported(graph, trusted=True)
    assert plain_card(card).items() >= SAID.items()
    assert (card.model["name"], card.model["in_channels"]) == ("nfnet_pico", 1)


def test_a_half_precision_network_becomes_a_float_graph(tmp_path: Path) -> None:
    model = network().bfloat16()
    export_model(model, tmp_path / "model.pt2", CARD)
    exported, _ = open_exported(tmp_path / "model.pt2", trusted=True)
    assert exported(images(2)).dtype == torch.float32
    assert next(model.parameters()).dtype == torch.bfloat16


def test_onnx_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_model(network(), path, CARD)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    (metadata,) = [entry for entry in proto.metadata_props if entry.key == KEY]
    assert json.loads(metadata.value)["classes"] == CARD["classes"]
    (taken,), (given,) = proto.graph.input, proto.graph.output
    assert (taken.name, given.name) == ("images", "logits")
    sides = taken.type.tensor_type.shape.dim
    assert sides[0].dim_param == "batch"
    assert [side.dim_value for side in sides[1:]] == [1, 9, 9]
    used = {node.op_type for node in proto.graph.node}
    assert used <= {  # operators that small devices support
        *("Conv", "Gelu", "Gemm", "AveragePool", "ReduceMean", "Relu", "Sigmoid"),
        *("Unsqueeze", "Mul", "Add"),
    }


def test_safetensors_is_the_network_as_trained(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "model.safetensors"
    export_model(model, path, CARD)
    loaded = load_model(path)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    beside = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()[KEY]) == beside
    assert beside.items() >= SAID.items()


def test_a_network_of_imagenet_needs_no_card(tmp_path: Path) -> None:
    model = build_model("nfnet_pico", num_classes=5)
    export_model(model, tmp_path / "model.pt2")
    exported, card = open_exported(tmp_path / "model.pt2", trusted=True)
    assert (card.classes, card.mean[0], card.test_size) == (tuple("01234"), 123.675, 8)
    assert exported(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
    with pytest.raises(UserError, match="the card lacks classes, mean, std"):
        export_model(network(), tmp_path / "gray.pt2")


def test_a_file_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "TOLERANCE", 0.0)
    with pytest.raises(UserError, match=r"logits of .*model\.onnx differ from PyTorch's by"):
        export_model(network(), tmp_path / "model.onnx", CARD)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"end it in \.onnx, \.pt2, \.safetensors"):
        export_model(network(), tmp_path / "model.tflite", CARD)
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"onnxscript: pip install 'normfree\[onnx\]'"):
        export_model(network(), tmp_path / "model.onnx", CARD)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_what_cannot_be_opened_is_said(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    with pytest.raises(UserError, match="there is no"):
        open_exported(path, trusted=True)
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match=f"model{suffix}"):
        open_exported(path, trusted=True)


def test_files_of_others_are_told_apart(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(2, 3), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "linear.pt2")
    with pytest.raises(UserError, match="has no card"):
        open_exported(tmp_path / "linear.pt2", trusted=True)
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([node], "relu", ends[:1], ends[1:]), ir_version=10
    )
    onnx.save(proto, tmp_path / "relu.onnx")
    with pytest.raises(UserError, match="has no card"):
        open_exported(tmp_path / "relu.onnx")
    save_model(network(), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"not an exported graph: expected \.onnx or \.pt2"):
        open_exported(tmp_path / "weights.safetensors")
