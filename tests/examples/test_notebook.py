"""The notebook: its cells run in order, and it is stored without outputs.

They run here, without a kernel: nbclient would bring Jupyter's kernels, sockets and web server for
what two calls of Python do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def source(cell):
    return "".join(cell["source"])


def test_it_is_a_notebook_of_version_4_without_outputs():
    content = json.loads(NOTEBOOK.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    for cell in CELLS:
        assert cell["cell_type"] in ("code", "markdown")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_its_cells_run_in_order(tmp_path):
    code = "\n\n".join(source(cell) for cell in CELLS if cell["cell_type"] == "code")
    environment = {
        **os.environ,
        "PYTHONPATH": str(NOTEBOOK.parents[1]),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "pdf",  # draws, and shows nothing
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:.*non-interactive", "-c", code],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    accuracy, truth, *guesses = done.stdout.splitlines()
    assert float(accuracy.partition("%")[0]) > 70  # of ten classes, after four epochs
    assert truth.startswith("truth: ")
    assert len(guesses) == 3
    assert (tmp_path / "digits.safetensors").is_file()


def test_every_plot_has_a_title_and_axes():
    for cell in CELLS:
        code = source(cell)
        if "subplots" in code:
            assert "title" in code
            assert "imshow" in code or ("xlabel=" in code and "ylabel=" in code)
