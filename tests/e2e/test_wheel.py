"""The wheel holds all that the command needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_command_runs_from_the_wheel(tmp_path: Path) -> None:
    def python(*words: str | Path, **environment: str) -> str:
        result = subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | environment,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    python("-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    python("-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    where = python("-c", "import normfree; print(normfree.__file__)", PYTHONPATH=str(site))
    assert where.startswith(str(site))
    main = "from normfree.cli import main; main(['recipes'])"
    assert "fashion_mnist" in python("-c", main, PYTHONPATH=str(site))
