"""Triton's kernels compile for GPUs, without one; ``test_triton.py`` runs this file."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from normfree.kernels.triton import jit_standardize, jit_update

TARGETS = {"A100": 80, "H100": 90}


def assembly(kernel: Any, types: dict[str, str], constants: dict[str, Any], target: int) -> str:
    """PTX of a kernel whose pointers are aligned, and whose rows are if there is a fan-in."""
    signature = {**types, **dict.fromkeys(constants, "constexpr")}
    aligned = [i for i, name in enumerate(types) if types[name][0] == "*" or name == "fan_in"]
    source = ASTSource(
        kernel, signature, constants, {(i,): [["tt.divisibility", 16]] for i in aligned}
    )
    return triton.compile(source, target=GPUTarget("cuda", target, 32)).asm["ptx"]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_standardization(target: int, dtype: str) -> None:
    rows = {"weight": "*fp32", "gain": "*fp32"}
    numbers = {"fan_in": "i32", "eps": "fp32"}
    calls = {
        jit_standardize.forward: rows | {"result": f"*{dtype}"} | numbers,
        jit_standardize.backward: {"grad": f"*{dtype}"}
        | rows
        | {"weight_grad": "*fp32", "gain_grad": "*fp32"}
        | numbers,
    }
    for kernel, types in calls.items():
        code = assembly(kernel, types, {"block": 1024}, target)
        assert re.search(r"ld\.global\S*\.v4", code)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(("aligned", "on_device"), [*product([False, True], repeat=2)])
def test_the_update_reads_16_bytes_together_where_units_are_aligned(
    target: int, aligned: bool, on_device: bool
) -> None:
    scalar = "*fp32" if on_device else "fp32"
    types = {"table": "*i64", "owner": "*i32", "scales": "*fp32", "lr": scalar}
    types |= {"average_weight": scalar}
    types |= dict.fromkeys(("momentum", "weight_decay", "clipping", "eps"), "fp32")
    flags = ("clips", "nesterov", "has_velocity", "has_average")
    constants: dict[str, Any] = dict.fromkeys(flags, True)
    constants |= {"lr_on_device": on_device, "average_weight_on_device": on_device}
    constants |= {"aligned": aligned, "block": 1024}
    code = assembly(jit_update.update, types, constants, target)
    for instruction in (r"ld\.global\S*\.v4", r"st\.global\S*\.v4"):
        assert bool(re.search(instruction, code)) == aligned
