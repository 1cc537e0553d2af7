"""The tutorial, command by command; training is shortened to one epoch."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.e2e.command import ENVIRONMENT, normfree

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_the_tutorial(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert [kind for kind, _ in blocks].count("sh") == 5
    for kind, block in blocks:
        if kind == "python":
            environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
            done = subprocess.run(
                [sys.executable, "-c", block],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line.replace("--epochs 5", "--epochs 1"))
            assert program == "normfree"
            done = normfree(*words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "tutorial" / "model.safetensors").is_file()
    assert "digit" in done.stdout
