"""The directory of a run: what lies where, and whose it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.train.config import Recipe

#: Where runs go that were given no ``--out``.
RUNS = Path("runs")


@dataclass(frozen=True)
class RunDirectory:
    """Where the files of a run are.

    Args:
        path: the directory.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The recipe and what was derived from it."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """What was measured, a JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The best averaged weights, with all that prediction needs."""
        return self.path / "model.safetensors"

    @property
    def curves(self) -> Path:
        """Plot of the metrics."""
        return self.path / "curves.png"

    def read_config(self) -> dict[str, Any]:
        """The saved configuration.

        Raises:
            UserError: there is no run in this directory.
        """
        try:
            saved = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.path} holds no run to go on with; leave out --resume to start one there"
            ) from None
        except yaml.YAMLError as error:
            raise UserError(f"{self.config} is not YAML: {_one_line(error)}") from error
        if not isinstance(saved, dict) or not {"recipe", "derived"} <= saved.keys():
            raise UserError(f"{self.config} is not the configuration of a run")
        return saved

    def write_config(self, config: dict[str, Any]) -> None:
        """Save the configuration."""
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_atomic(self.config, text.encode())


def create_run_directory(recipe: Recipe) -> RunDirectory:
    """Make the directory of a new run.

    Raises:
        UserError: ``recipe.out`` holds another run or other files.
    """
    if recipe.out is None:
        return RunDirectory(_first_free(recipe.name))
    run = RunDirectory(recipe.out)
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"--out {run.path} is a file; choose another name")
    if run.config.exists():
        raise UserError(
            f"{run.path} holds another run; go on with it by --resume, or choose another --out"
        )
    if run.path.is_dir() and any(run.path.iterdir()):
        raise UserError(f"{run.path} is not empty; choose another --out")
    run.path.mkdir(parents=True, exist_ok=True)
    return run


def find_run_directory(recipe: Recipe) -> RunDirectory:
    """The directory of the run to go on with: ``recipe.out`` or the newest of its name.

    Raises:
        UserError: there is none.
    """
    if recipe.out is not None:
        return RunDirectory(recipe.out)
    runs = _numbered(recipe.name)
    if not runs:
        raise UserError(
            f"no {RUNS / recipe.name}-N to go on with; leave out --resume, or say where by --out"
        )
    return RunDirectory(runs[max(runs)])


def _numbered(name: str) -> dict[int, Path]:
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    matches = {path: pattern.fullmatch(path.name) for path in RUNS.glob("*")}
    return {int(match[1]): path for path, match in matches.items() if match}


def _first_free(name: str) -> Path:
    RUNS.mkdir(exist_ok=True)
    for number in count(max(_numbered(name), default=0) + 1):
        path = RUNS / f"{name}-{number}"
        try:
            path.mkdir()
        except FileExistsError:  # another process was faster
            continue
        return path
    raise AssertionError("count() never ends")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
