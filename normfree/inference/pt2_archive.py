"""Checks of a ``.pt2`` file before it is passed to PyTorch's reader.

That reader is meant for trusted files: it unpickles members, evaluates text as sympy expressions,
and looks up the graph's functions by name in ``torch``. A file that passes these checks has no
pickles except of plain tensors (which are dropped), no expressions except integer arithmetic on
symbols, and no functions except those of folded networks. The reader then receives a new archive
with only the checked members.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from normfree.errors import UserError
from normfree.weights.torch_file import checked_members, read_torch_bytes
from normfree.weights.unpickle import Refused, check, shown

CARD = "extra/normfree"
_GRAPH = "models/model.json"
_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
_INPUTS = "data/sample_inputs/model.pt"
_NUMBERS = re.compile(r"data/weights/weight_\d{1,6}")
_SMALL = {"archive_format", "archive_version", "byteorder", ".data/version"}
_LEFT_OUT = {_INPUTS, ".data/serialization_id", ".format_version", "version"}
_MAX_JSON = 64 * 2**20
_MAX_DEPTH = 40

#: Functions in the graphs of folded networks.
_FUNCTIONS = frozenset(
    {
        *("conv2d.default", "linear.default", "pad.default", "avg_pool2d.default"),
        *("max_pool2d.default", "mean.dim", "adaptive_avg_pool2d.default"),
        *("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "addcmul.default"),
        *(
            "slice.Tensor",
            "unsqueeze.default",
            "squeeze.dims",
            "flatten.using_ints",
            "view.default",
        ),
        *("reshape.default", "permute.default", "sym_size.int", "einsum.default"),
        *("relu.default", "relu6.default", "gelu.default", "silu.default", "sigmoid.default"),
        *("tanh.default", "elu.default", "celu.default", "selu.default", "leaky_relu.default"),
        *("softplus.default", "log_sigmoid.default", "hardtanh.default", "hardswish.default"),
        *("hardsigmoid.default", "mish.default", "sin.default", "cos.default", "clamp.default"),
        *("softmax.int", "log_softmax.int", "erf.default", "exp.default", "square.default"),
        *("abs.default", "neg.default", "pow.Tensor_Scalar", "rsqrt.default", "sqrt.default"),
        *("where.self", "gt.Scalar", "lt.Scalar", "minimum.default", "maximum.default"),
        *("_assert_scalar.default", "sym_constrain_range_for_size.default", "clone.default"),
        *("dropout.default", "alias.default", "detach.default", "contiguous.default"),
        *("constant_pad_nd.default", "softsign.default", "glu.default"),
        *("to.dtype", "_to_copy.default"),
    }
)
_TARGETS = frozenset(f"torch.ops.aten.{name}" for name in _FUNCTIONS) | {
    f"_operator.{name}"
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "ge", "le", "gt", "lt", "eq", "ne")
}
#: Plain argument types; others name graphs, operators or objects.
_ARGUMENTS = frozenset(
    f"as_{kind}"
    for kind in (
        *("none", "tensor", "tensors", "optional_tensors", "optional_tensor", "nested_tensors"),
        *("int", "ints", "float", "floats", "bool", "bools", "string", "strings"),
        *("sym_int", "sym_ints", "sym_bool", "sym_bools", "sym_float", "sym_floats"),
        *("scalar_type", "memory_format", "layout", "device", "expr", "name"),
    )
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,200}")
_SYMBOL = re.compile(r"[a-z]{1,3}\d{1,9}")
_CALLS = frozenset(
    {"Symbol", "Integer", "Add", "Mul", "FloorDiv", "CeilDiv", "CleanDiv", "Mod", "PythonMod"}
)
_ASSUMPTIONS = frozenset({"positive", "nonnegative", "integer"})
_SYNTAX = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load, ast.Call),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub),
    *(ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
)
_SPECS = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})


def read_checked(path: Path) -> tuple[bytes, bytes]:
    """A new archive with the checked members of a ``.pt2``, and the JSON of its card.

    Raises:
        UserError: the file is damaged, or contains anything that folded networks do not need.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path.stat().st_size)
            content = {name: archive.read(info) for name, info in members.items()}
        _check_members(content)
        _check_numbers(content)
        graph = _json(content, _GRAPH)
        _check_graph(graph)
        content[_GRAPH] = json.dumps(_without_remarks(graph)).encode()
        return pack(content), content.get(CARD, b"")
    except Refused as reason:
        raise UserError(f"{path} is damaged or refused: {reason}; nothing in it was run") from None
    except MemoryError:
        raise
    except Exception as error:  # zipfile raises undocumented exceptions on damaged archives
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged or not a .pt2 file: {said}") from None


def pack(content: Mapping[str, bytes]) -> bytes:
    """An archive for PyTorch's reader, without sample inputs: they would be a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in {**content, _INPUTS: b""}.items():
            # ZipInfo has a fixed date, so equal networks give equal files.
            archive.writestr(zipfile.ZipInfo(f"model/{name}"), data)
    return file.getvalue()


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Members by name, without the archive's root directory."""
    found = checked_members(archive, size)
    roots = {name.partition("/")[0] for name in found}
    check(len(roots) == 1, "it is not a torch.export archive")
    return {name.partition("/")[2]: info for name, info in found.items()}


def _check_members(content: dict[str, bytes]) -> None:
    needed = {_GRAPH, _WEIGHTS, _CONSTANTS}
    check(needed <= content.keys(), "it is not a torch.export archive")
    for name in list(content):
        known = name in needed | _SMALL | _LEFT_OUT | {CARD}
        if name.startswith("extra/") and name != CARD:
            known = True
            del content[name]
        check(
            known or _NUMBERS.fullmatch(name), f"it contains {shown(name)}, which no network needs"
        )
    if pickled := content.get(_INPUTS):
        _check_inputs(pickled)
    for name in _LEFT_OUT:
        content.pop(name, None)


def _check_inputs(pickled: bytes) -> None:
    """Reject sample inputs that are anything but a ``torch.save`` file of plain tensors."""
    try:
        read_torch_bytes(pickled)
    except MemoryError:
        raise
    except Refused as reason:
        raise Refused(f"its {_INPUTS} holds a pickle that could run code: {reason}") from None
    except Exception:  # zipfile raises undocumented exceptions on damaged archives
        raise Refused(f"its {_INPUTS} holds a pickle, which could run code") from None


def _json(content: Mapping[str, bytes], name: str) -> Any:
    check(len(content[name]) <= _MAX_JSON, f"its {name} is too large")
    try:
        return json.loads(content[name])
    except (ValueError, RecursionError):
        raise Refused(f"its {name} is not valid JSON") from None


def _check_numbers(content: Mapping[str, bytes]) -> None:
    """Check that each weight is a raw member large enough for its shape, without constants."""
    check(_json(content, _CONSTANTS) == {"config": {}}, "it contains constants besides its weights")
    config = _json(content, _WEIGHTS)
    check(isinstance(config, dict) and isinstance(config.get("config"), dict), "it has no weights")
    for name, weight in config["config"].items():
        check(_NAME.fullmatch(name), f"a weight has the name {shown(name)}")
        match weight:
            case {"path_name": str(member), "use_pickle": False, "tensor_meta": dict(meta)}:
                held = content.get(f"data/weights/{member}")
                check(held is not None, f"it lacks the data of {shown(name)}")
                _check_tensor(meta, len(held or b""), name)
            case {"use_pickle": used} if used is not False:
                raise Refused(f"the weight {shown(name)} is a pickle, which could run code")
            case _:
                raise Refused(f"the weight {shown(name)} is described in an unknown way")


def _check_tensor(meta: Mapping[str, Any], held: int, name: str) -> None:
    sides, strides = (_sizes(meta.get(key), name) for key in ("sizes", "strides"))
    (offset,) = _sizes([meta.get("storage_offset")], name)
    check(len(sides) == len(strides), f"{shown(name)} has an invalid shape")
    reach = offset + 1 + sum((n - 1) * step for n, step in zip(sides, strides, strict=True))
    count = 1
    for side in sides:
        count *= side
    check(max(reach, count) <= held, f"{shown(name)} has less data than its shape needs")


def _sizes(values: Any, name: str) -> list[int]:
    check(isinstance(values, list) and len(values) <= 16, f"{shown(name)} has an invalid shape")
    found = [value["as_int"] for value in values if isinstance(value, dict) and "as_int" in value]
    possible = all(type(value) is int and 0 <= value < 2**40 for value in found)
    check(possible and len(found) == len(values), f"{shown(name)} has an invalid shape")
    return found


def _check_graph(graph: Any) -> None:
    check(isinstance(graph, dict), "its graph is not a JSON object")
    check(not graph.get("guards_code"), "its graph contains code")
    ranges = graph.get("range_constraints", {})
    symbols = isinstance(ranges, dict) and all(map(_SYMBOL.fullmatch, ranges))
    check(symbols, "its graph has an invalid symbol")
    for key, value in _walk(graph):
        if key == "expr_str":
            check_expression(value)
        elif key == "target":
            check(isinstance(value, str) and value in _TARGETS, f"it calls {shown(value)}")
        elif key in ("in_spec", "out_spec"):
            _check_spec(value)
        elif key in ("name", "parameter_name", "buffer_name", "fqn"):
            named = value in (None, "") or (isinstance(value, str) and _NAME.fullmatch(value))
            check(named, f"its graph has the name {shown(value)}")
        elif key.startswith("as_"):
            check(key in _ARGUMENTS, f"its graph has an argument of the kind {shown(key)}")


def _walk(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every key and value of a tree, except metadata, which is dropped."""
    check(depth < _MAX_DEPTH, f"its graph is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, part in value.items():
            if key != "metadata":
                yield key, part
                yield from _walk(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            yield from _walk(part, depth + 1)


def check_expression(text: object) -> None:
    """Reject expressions of anything but integers, symbols and arithmetic.

    Raises:
        Refused: the expression contains anything else.

    >>> check_expression("(s77 + 1)//2")
    >>> check_expression("Symbol('s77', positive=True, integer=True)")
    >>> check_expression("__import__('os').system('true')")
    Traceback (most recent call last):
    normfree.weights.unpickle.Refused: it contains the expression "__import__('os').system('true')"
    """
    said = f"it contains the expression {shown(text)}"
    check(isinstance(text, str) and len(text) <= 500, said)
    try:
        nodes = list(ast.walk(ast.parse(str(text), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Refused(said) from None
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        match node:
            case ast.Constant(value=bool()):
                known = True
            case ast.Constant(value=int(value)):
                known = abs(value) < 2**63
            case ast.Constant(value=str(name)):
                known = bool(_SYMBOL.fullmatch(name))
            case ast.Name(id=name):
                known = name in _CALLS if id(node) in called else bool(_SYMBOL.fullmatch(name))
            case ast.Call(func=function):
                known = isinstance(function, ast.Name)
            case ast.keyword(arg=name, value=value):
                known = name in _ASSUMPTIONS and isinstance(value, ast.Constant)
            case _:
                known = isinstance(node, _SYNTAX)
        check(known, said)


def _check_spec(text: Any) -> None:
    """Check that arguments are nested only in tuples, lists and dicts."""
    if text is None or text == "":
        return
    try:
        spec = json.loads(text) if isinstance(text, str) and len(text) < 100_000 else None
    except (ValueError, RecursionError):
        spec = None
    check(isinstance(spec, list) and len(spec) == 2, "its graph nests arguments in an unknown way")
    for key, value in _walk(spec):
        if key == "type":
            check(value is None or (isinstance(value, str) and value in _SPECS), "it nests objects")
        if key == "context":
            plain = value is None or (isinstance(value, str) and value in ("null", "[]"))
            check(plain, "its graph nests arguments in an unknown way")


def _without_remarks(value: Any) -> Any:
    """Drop metadata about a graph's origin, which includes file names of the exporting machine."""
    if isinstance(value, dict):
        return {k: {} if k == "metadata" else _without_remarks(v) for k, v in value.items()}
    return [_without_remarks(v) for v in value] if isinstance(value, list) else value
