"""Files that execute code in PyTorch's own reader; normfree opens none of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import normfree
from normfree.cli import main
from normfree.errors import UserError
from normfree.inference import export_model, open_exported
from normfree.inference.pt2_archive import check_expression
from normfree.weights.unpickle import Refused
from tests.unit.inference.test_export import CARD, network

Members = dict[str, bytes]


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.marker}",)


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def pickled_inputs(members: Members, marker: Path) -> None:
    """Replace the sample inputs that PyTorch stores."""
    members["data/sample_inputs/model.pt"] = saved(((Touch(marker),), {}))


def pickled_weight(members: Members, marker: Path) -> None:
    """Declare a weight as a pickle."""
    place = "data/weights/model_weights_config.json"
    config = json.loads(members[place])
    weight = next(iter(config["config"].values()))
    weight["use_pickle"] = True
    members[f"data/weights/{weight['path_name']}"] = saved(Touch(marker))
    members[place] = json.dumps(config).encode()


def expression(members: Members, marker: Path) -> None:
    """Add a size that sympy evaluates."""
    text = members["models/model.json"].decode()
    code = f"__import__('os').system('touch {marker}')"
    assert "Symbol('" in text
    graph = json.loads(text)
    for tensor in graph["graph_module"]["graph"]["tensor_values"].values():
        for size in tensor["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = code
    members["models/model.json"] = json.dumps(graph).encode()


HOSTILE: dict[str, Callable[[Members, Path], None]] = {
    "sample inputs": pickled_inputs,
    "a pickled weight": pickled_weight,
    "an expression": expression,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Members:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    export_model(network(), path, CARD)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def pack(members: Members, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(f"model/{name}", value)
    return path


@pytest.fixture(params=list(HOSTILE))
def hostile(request: pytest.FixtureRequest, exported: Members, tmp_path: Path) -> Path:
    """A file that creates ``marker`` next to it when PyTorch reads it."""
    members = dict(exported)
    HOSTILE[request.param](members, tmp_path / "marker")
    return pack(members, tmp_path / "model.pt2")


def test_pytorchs_reader_runs_it(hostile: Path) -> None:
    """Check that these files do execute code in PyTorch's reader."""
    with contextlib.suppress(Exception):  # later errors do not matter
        torch.export.load(hostile)
    assert (hostile.parent / "marker").exists()


@pytest.mark.parametrize("trusted", [False, True])
def test_nothing_of_it_runs(hostile: Path, trusted: bool) -> None:
    for read in (normfree.load, open_exported):
        with pytest.raises(UserError, match="is damaged or refused" if trusted else "--trust"):
            read(hostile, trusted=trusted)  # type: ignore[operator]
    assert not (hostile.parent / "marker").exists()


@pytest.mark.parametrize("trust", [[], ["--trust"]])
@pytest.mark.parametrize("command", ["predict", "eval"])
def test_nothing_of_it_runs_by_a_command(
    command: str, trust: list[str], hostile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = hostile.parent / "image.png"
    Image.new("L", (9, 9)).save(image)
    words = [str(image)] if command == "predict" else ["--data", "digits"]
    with pytest.raises(SystemExit) as end:
        main([command, str(hostile), *words, *trust])
    assert end.value.code == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert ("is damaged or refused" if trust else "PyTorch's reader") in printed
    assert not (hostile.parent / "marker").exists()


def test_the_refusal_says_why_and_what_else_there_is(exported: Members, tmp_path: Path) -> None:
    path = pack(exported, tmp_path / "model.pt2")
    with pytest.raises(UserError) as refusal:
        normfree.load(path)
    for part in ("can run code", "--trust", "trusted=True", ".safetensors", ".onnx"):
        assert part in str(refusal.value)


@pytest.mark.parametrize("inputs", [pickle.dumps([1]), saved(Fraction(1))], ids=["bare", "saved"])
def test_the_refusal_names_the_member_with_a_pickle(
    inputs: bytes, exported: Members, tmp_path: Path
) -> None:
    path = pack(exported | {"data/sample_inputs/model.pt": inputs}, tmp_path / "model.pt2")
    with pytest.raises(
        UserError, match=r"its data/sample_inputs/model\.pt holds a pickle"
    ) as error:
        normfree.load(path, trusted=True)
    assert "zip" not in str(error.value)


def test_our_own_files_pass_also_those_of_before(exported: Members, tmp_path: Path) -> None:
    """Older files have a pickle of plain tensors, which is dropped, and PyTorch's metadata."""
    assert exported["data/sample_inputs/model.pt"] == b""
    old = exported | {
        "data/sample_inputs/model.pt": saved(((torch.zeros(2, 1, 9, 9),), {})),
        ".data/serialization_id": b"1" * 40,
        "extra/mine": b"of no concern",
    }
    x = torch.randn(3, 1, 9, 9)
    want = network()(x)
    for members in (exported, old):
        model, _ = open_exported(pack(members, tmp_path / "model.pt2"), trusted=True)
        torch.testing.assert_close(model(x), want, rtol=0, atol=2e-6)


def test_equal_networks_give_equal_files_without_paths_of_the_machine(
    exported: Members, tmp_path: Path
) -> None:
    contents = []
    for name in ("a.pt2", "b.pt2"):
        export_model(network(), tmp_path / name, CARD)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert b"site-packages" not in contents[0]
    torch.export.load(tmp_path / "a.pt2")  # with PyTorch's own reader


def edit(members: Members, change: Callable[[Any], None]) -> Members:
    graph = json.loads(members["models/model.json"])
    change(graph)
    return members | {"models/model.json": json.dumps(graph).encode()}


def _call(target: str) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        graph["graph_module"]["graph"]["nodes"][0]["target"] = target

    return change


def _code(graph: Any) -> None:
    graph["guards_code"] = ["__import__('os').abort()"]


def _spec(graph: Any) -> None:
    call = graph["graph_module"]["module_call_graph"][0]["signature"]
    call["in_spec"] = call["in_spec"].replace("builtins.tuple", "collections.defaultdict")


def _object(graph: Any) -> None:
    node = graph["graph_module"]["graph"]["nodes"][0]
    node["inputs"][0]["arg"] = {"as_custom_obj": {"name": "x", "class_fqn": "y"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_call("torch.load"), "it calls 'torch.load'"),
        (_call("torch.hub.load"), "it calls 'torch.hub.load'"),
        (_call("torch.ops.aten.from_file.default"), "it calls 'torch.ops.aten.from_file"),
        (_code, "contains code"),
        (_spec, "nests objects"),
        (_object, "as_custom_obj"),
    ],
)
def test_a_graph_of_something_else_is_refused(
    change: Callable[[Any], None], message: str, exported: Members, tmp_path: Path
) -> None:
    path = pack(edit(exported, change), tmp_path / "model.pt2")
    with pytest.raises(UserError, match=message):
        normfree.load(path, trusted=True)


def test_a_graph_that_cannot_run_is_one_line(exported: Members, tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        nodes = graph["graph_module"]["graph"]["nodes"]
        gelu = next(node for node in nodes if "gelu" in node["target"])
        gelu["inputs"][1]["arg"] = {"as_float": -0.5}

    path = pack(edit(exported, change), tmp_path / "model.pt2")
    with pytest.raises(UserError, match=r"PyTorch cannot run .*model\.pt2: aten::gelu") as error:
        normfree.load(path, trusted=True).predict(torch.zeros(9, 9, dtype=torch.uint8).numpy())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["data/aotinductor/model/x.so", "data/constants/opaque_obj_0", "data/weights/model.pt", "x.py"],
)
def test_other_members_are_refused(name: str, exported: Members, tmp_path: Path) -> None:
    path = pack(exported | {name: b"x"}, tmp_path / "model.pt2")
    with pytest.raises(UserError, match="which no network needs"):
        normfree.load(path, trusted=True)


@pytest.mark.parametrize(
    "text",
    [
        "().__class__.__bases__[0].__subclasses__()",
        "exec('1')",
        "s77.args",
        "[1][0]",
        "10**10**10",
        "lambda: 1",
        "Symbol('os.system')",
        "Symbol('s77', cls=Symbol('s1'))",
        "Function('f')(1)",
        "f'{s77}'",
        "(" * 400 + ")" * 400,
        "1" * 400,
        7,
        None,
    ],
)
def test_expressions_that_are_no_arithmetic(text: object) -> None:
    with pytest.raises(Refused, match="expression"):
        check_expression(text)


@pytest.mark.parametrize("text", ["s77", "2*s0 + 1", "Mod(s1, 2)", "-s3 // 4", "s77 <= 7"])
def test_expressions_that_are(text: str) -> None:
    check_expression(text)
