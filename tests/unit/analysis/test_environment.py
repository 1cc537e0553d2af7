from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from normfree.analysis import environment
from normfree.analysis.environment import environment as describe


def test_a_measurement_says_where_it_was_made() -> None:
    found = json.loads(json.dumps(describe()))
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["processor"]
    assert len(found["date"]) == 10


def test_the_commit_tells_changed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "package" / "analysis" / "environment.py"
    file.parent.mkdir(parents=True)
    file.write_text("1")
    monkeypatch.setattr(environment, "__file__", str(file))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe()["commit"] is None

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    head = git("rev-parse", "--short=12", "HEAD")
    assert describe()["commit"] == head
    file.write_text("2")
    assert describe()["commit"] == head + "+"
    monkeypatch.setenv("PATH", "")
    assert describe()["commit"] is None
