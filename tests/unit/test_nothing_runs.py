"""No code of the package can run what a file says: what could is named here, with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "normfree"

#: What can run code from a file, or write outside a directory.
DANGEROUS = {
    *("eval", "exec", "compile", "__import__"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "joblib.load"),
    *("torch.load", "torch.jit.load", "torch.package.PackageImporter", "torch.hub.load"),
    *("torch.export.load", "torch.ops.load_library", "numpy.load", "numpy.fromregex"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"),
    *("onnx.load", "onnx.load_model", "marshal.loads", "marshal.load", "shelve.open"),
    *("os.system", "os.popen", "os.execv", "subprocess.run", "subprocess.Popen"),
    *("subprocess.check_output", "subprocess.call", "importlib.import_module", "runpy.run_path"),
    *("zipfile.Path", "shutil.unpack_archive", "ctypes.CDLL", "datasets.load_dataset"),
}
#: Methods, of whatever object.
METHODS = {"extract", "extractall", "load_library", "unpack_archive"}

#: Where it is used all the same: (file, name) → why no file decides what runs.
REASONS = {
    ("lazy.py", "importlib.import_module"): "a name of the package's own table",
    ("cli/__init__.py", "importlib.import_module"): "a name of the package's own list of commands",
    ("cli/completion.py", "importlib.import_module"): "a name of the package's own lists",
    ("cli/bench.py", "importlib.import_module"): "a name of the package's own list",
    ("analysis/training/peers.py", "importlib.import_module"): "a constant",
    ("analysis/training/memory.py", "importlib.import_module"): "a constant",
    ("inference/onnx_file.py", "importlib.import_module"): "a constant of the caller",
    ("inference/openvino_network.py", "importlib.import_module"): "a constant",
    ("analysis/environment.py", "subprocess.run"): "git, with constant arguments",
    ("kernels/library.py", "ctypes.CDLL"): "the library that was built with the package",
    ("kernels/pool.py", "ctypes.CDLL"): "what this process has loaded already",
    ("inference/pt2_file.py", "torch.export.load"): "after --trust, of bytes that were checked "
    "and written again by pt2_archive",
    ("train/run_dir.py", "yaml.load"): "with a loader of plain values, derived from SafeLoader",
    ("data/ring.py", "pickle.Unpickler"): "from a worker of this process, over its own pipe",
    ("data/share.py", "pickle.Unpickler"): "from memory that this process shared with its workers",
    ("data/sources/hugging_face.py", "datasets.load_dataset"): "version 4 or later, which cannot "
    "run a dataset's code",
}


def imported(tree: ast.AST) -> dict[str, str]:
    """Local name → full name, of every import of a file."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                names[item.asname or item.name.partition(".")[0]] = (
                    item.name if item.asname else item.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for item in node.names:
                names[item.asname or item.name] = f"{node.module}.{item.name}"
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """The full name of an expression such as ``np.load``; None if it is no name."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (base := dotted(node.value, names)):
        return f"{base}.{node.attr}"
    return None


def uses(source: str) -> set[str]:
    """The dangerous names that a file uses, called or not."""
    tree = ast.parse(source)
    names, found = imported(tree), set()
    for node in ast.walk(tree):
        name = dotted(node, names)
        if name in DANGEROUS:
            found.add(name)
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            found.add(node.attr)
    return found


def test_what_could_run_code_is_used_only_where_it_has_a_reason() -> None:
    found = {
        (file.relative_to(PACKAGE).as_posix(), name)
        for file in PACKAGE.rglob("*.py")
        for name in uses(file.read_text(encoding="utf-8"))
    }
    assert found == set(REASONS)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch as t\nt.load('x')", "torch.load"),
        ("from torch import load\nload('x')", "torch.load"),
        ("import numpy as np\nnp.load('x', allow_pickle=False)", "numpy.load"),
        ("def f():\n    from pickle import loads as l\n    return map(l, x)", "pickle.loads"),
        ("eval('1')", "eval"),
        ("archive.extractall('x')", "extractall"),
    ],
)
def test_a_use_is_found_by_any_name(source: str, name: str) -> None:
    assert uses(source) == {name}
    assert uses("model.eval()\nre.compile('x')\nsaved.load(x)") == set()
