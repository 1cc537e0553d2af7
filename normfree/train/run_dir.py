"""The directory of a run: its files, and who may write to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.train.run_lock import LOCK, WRITER, locked

#: Where runs go that were given no ``--out``.
RUNS = Path("runs")

_LARGEST = 64 << 20  # bytes of a configuration: enough for the names of a million classes


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
    def telemetry(self) -> Path:
        """What clipping, gradients, weights and updates did, layer by layer."""
        return self.path / "telemetry.bin"

    @property
    def bad_images(self) -> Path:
        """The images that could not be read and were skipped, with the reasons."""
        return self.path / "bad_images.txt"

    @property
    def skipped(self) -> Path:
        """The steps that were not taken, with the reasons; absent where all were."""
        return self.path / "skipped_steps.json"

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The weights, raw or averaged, that were best on the validation images.

        With all that prediction needs.
        """
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        """The averaged weights after the last epoch, which nothing was chosen by."""
        return self.path / "last.safetensors"

    @property
    def report(self) -> Path:
        """One page on the run."""
        return self.path / "report.html"

    @property
    def curves(self) -> Path:
        """Plot of the metrics."""
        return self.path / "curves.png"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing here.

        Raises:
            UserError: another process does so.
        """
        with locked(self.path):
            yield

    def read_config(self) -> dict[str, Any]:
        """The saved configuration, not yet checked.

        Raises:
            UserError: there is no run in this directory.
        """
        try:
            saved = yaml.load(_read_text(self.config), Loader=_PlainLoader)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.path} holds no run to go on with; leave out --resume to start one there"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise UserError(f"{self.config} is not YAML: {_one_line(error)}") from None
        if not isinstance(saved, dict):
            raise UserError(f"{self.config} is not the configuration of a run")
        return saved

    def write_config(self, config: dict[str, Any]) -> None:
        """Save the configuration."""
        text = yaml.dump(config, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)
        write_atomic(self.config, text.encode())


@contextmanager
def new_run_directory(name: str, out: Path | None) -> Iterator[RunDirectory]:
    """The directory of a new run, made and locked.

    Args:
        name: of the run.
        out: the directory; None takes the first free ``runs/NAME-N``.

    Raises:
        UserError: ``out`` holds another run or other files, or is being written to.
    """
    run = RunDirectory(_first_free(name) if out is None else out)
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"--out {run.path} is a file; choose another name")
    run.path.mkdir(parents=True, exist_ok=True)
    with run.locked():
        if run.config.exists():
            raise UserError(
                f"{run.path} holds another run; go on with it by --resume, or choose another --out"
            )
        if any(entry.name not in (LOCK, WRITER) for entry in run.path.iterdir()):
            raise UserError(f"{run.path} is not empty; choose another --out")
        yield run


def find_run_directory(name: str, out: Path | None) -> RunDirectory:
    """The directory of the run to go on with: ``out``, or the newest of its name.

    Raises:
        UserError: there is none.
    """
    if out is not None:
        return RunDirectory(out)
    runs = {number: path for number, path in _numbered(name).items() if _is_run(path)}
    if not runs:
        raise UserError(
            f"no {RUNS / name}-N to go on with; leave out --resume, or say where by --out"
        )
    return RunDirectory(runs[max(runs)])


def _numbered(name: str) -> dict[int, Path]:
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    matches = {path: pattern.fullmatch(path.name) for path in RUNS.glob("*")}
    return {int(match[1]): path for path, match in matches.items() if match}


def _is_run(path: Path) -> bool:
    return RunDirectory(path).config.exists()


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


class _PlainDumper(yaml.SafeDumper):
    """Writes every value out in full."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, by which a small file can stand for a value that fills the memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _read_text(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        raise ValueError("it is too large for a configuration")
    return path.read_text(encoding="utf-8")


def _one_line(error: Exception) -> str:
    """What is wrong and where, of PyYAML's many lines."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None:
        return " ".join(str(error).split())[:100] or type(error).__name__
    return str(problem) if mark is None else f"{problem} in line {mark.line + 1}"
