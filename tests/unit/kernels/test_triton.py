"""Triton's kernels, in processes of their own: Triton reads its settings when it is imported.

They run where Triton is installed, which needs no GPU: ``pip install triton``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

installed = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def run(file: str, tmp_path: Path, **variables: str) -> None:
    variables |= {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / file)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@installed
def test_interpreted_kernels_are_the_equations(tmp_path: Path) -> None:
    run("triton_interpreted.py", tmp_path, TRITON_INTERPRET="1")


@installed
def test_kernels_compile_for_gpus(tmp_path: Path) -> None:
    run("triton_compiled.py", tmp_path, TRITON_INTERPRET="0")


def test_without_a_gpu_there_is_no_kernel() -> None:
    import torch

    from normfree.kernels import triton

    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("kernels can be launched")
    weight, gain = torch.ones(2, 3), torch.ones(2)
    assert triton.standardize(weight, gain, 1e-4) is None
    assert triton.standardize_backward(weight, weight, gain, 1e-4) is None
