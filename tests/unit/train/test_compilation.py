"""Compiled steps are the same steps, in one graph; what is compiled is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from normfree import UserError
from normfree.train import compilation
from normfree.train.checkpoint import list_checkpoints
from normfree.train.compilation import VARIABLE, about_compilation, cache_directory, compiled
from normfree.train.fit import fit
from tests.unit.train.test_step import EVERYTHING, distance, moved, setting, trained
from tests.unit.train.tiny import assert_same_bits, final_state, remove, tiny_recipe


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[int]]:
    """Sizes of the graphs that would be compiled; they run eagerly."""
    found: list[int] = []

    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        found.append(len(module.graph.nodes))
        return torch._dynamo.lookup_backend("aot_eager")(module, inputs)

    given = torch.compile

    def compile_(function: Any, *, dynamic: bool, mode: None) -> Any:
        assert not dynamic
        return given(function, dynamic=dynamic, fullgraph=True, backend=backend)

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    torch.compiler.reset()
    yield found
    torch.compiler.reset()


BATCH_NORM: dict[str, Any] = {
    "model": "bn_resnet50",
    "model_options": {"widths": [16] * 4, "depths": [1] * 4},
}


@pytest.mark.parametrize(
    ("sizes", "changes"),
    [
        (1, {"sam_rho": 0.0}),
        (1, {"sam_rho": 0.0, "accumulate": 2}),
        (2, {"sam_rho": 0.0, "accumulate": 5}),  # micro-batches of 4 and 5
        (2, {"accumulate": 2, "sam_scope": "micro_batch"}),
        (1, {"sam_rho": 0.0, "precision": "bfloat16"}),
        (1, {"sam_rho": 0.0, "channels_last": True, "activation_checkpointing": True}),
        (1, {"sam_rho": 0.0, "loss": "sigmoid", "mixing": "none"}),
    ],
    ids=str,
)
def test_compiled_steps_are_the_same_steps_in_one_graph(
    sizes: int, changes: dict[str, Any], graphs: list[int]
) -> None:
    eager, _ = trained(3, **changes)
    assert not graphs
    state, _ = trained(3, compile=True, **changes)
    assert len(graphs) == sizes  # one for each size of a micro-batch, whatever the step
    assert distance(state, eager) < (1e-6 if changes.get("precision") is None else 2e-2)
    assert float(moved(state).norm()) > 0


def test_running_statistics_move_as_without_the_compiler(graphs: list[int]) -> None:
    kept = []
    for compile_ in (False, True):
        _, step, batches = setting(**BATCH_NORM, accumulate=2, compile=compile_)
        step(batches)
        step(batches)
        kept.append(dict(step.state.model.named_buffers()))
    assert len(graphs) == 1
    counts = [x for name, x in kept[1].items() if name.endswith("num_batches_tracked")]
    assert len(counts) > 4
    assert all(count == 4 for count in counts)
    for name, value in kept[0].items():
        torch.testing.assert_close(kept[1][name], value, msg=name)


def test_a_compiled_run_says_so_and_resumes_to_the_same_bits(
    graphs: list[int], tmp_path: Path
) -> None:
    out = tmp_path / "whole"
    console = Console(file=StringIO(), width=200)
    fit(tiny_recipe(out, compile=True), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "compiling in the first step, into" in said
    assert "compiled: the first step took" in said
    assert len(graphs) == 1

    again = tmp_path / "again"
    shutil.copytree(out, again)
    for path in list_checkpoints(again / "checkpoints")[3:]:
        remove(path)  # as if it had been stopped after the third step
    fit(tiny_recipe(again, compile=True, resume=True))
    assert_same_bits(final_state(again), final_state(out))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_compilers_own_code_gives_the_same_curve(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    curves = []
    for compile_ in (False, True):
        settings = EVERYTHING | {"sam_rho": 0.0, "warmup_steps": 0.0, "precision": precision}
        del settings["sam_fraction"]
        _, step, batches = setting(**settings, compile=compile_)
        curves.append(torch.stack([step(batches).loss for _ in range(8)]))
    assert curves[0].max() - curves[0].min() > 0.1
    tolerance = 1e-4 if precision == "float32" else 3e-2
    torch.testing.assert_close(curves[1], curves[0], rtol=0, atol=tolerance)
    assert any(tmp_path.rglob("*.so"))  # kept for the next run


def test_a_compiler_that_is_missing_is_a_clear_error() -> None:
    from torch._inductor import config, cpp_builder

    said = r"needs a C\+\+ compiler .* or train without --compile"
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(UserError, match=said):
        setting(compile=True)
    cpp_builder.cpp_compiler_search.cache_clear()


def test_a_compiler_that_fails_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        raise RuntimeError("no space left")

    given = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **settings: given(f, backend=broken))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"cannot be compiled: .*no space left"):
        compiled(lambda x: x + 1, "cpu")(torch.ones(2))


def test_compiled_code_is_kept_for_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    assert cache_directory() == tmp_path / "a" / "normfree" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "b")
    assert cache_directory() == tmp_path / "b" / ".cache" / "normfree" / "compiled"
    assert str(cache_directory()) in about_compilation(True)[0]
    compilation.keep_compiled()
    assert os.environ[VARIABLE] == str(cache_directory())
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))  # the user's choice comes first
    assert cache_directory() == tmp_path / "mine"


def test_without_a_place_to_keep_it_compilation_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_directory() is None
    compilation.keep_compiled()
    assert VARIABLE not in os.environ
    assert "nothing can be kept" in about_compilation(True)[0]
    assert about_compilation(False) == []
