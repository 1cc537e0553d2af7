"""A run as a report sees it: what its directory holds, however far it came."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normfree.analysis.telemetry_file import History, read_telemetry
from normfree.errors import UserError
from normfree.report.evaluation import EvaluationFile, read_evaluation
from normfree.report.metrics import is_plain, read_metrics

CONFIG, METRICS, TELEMETRY = "config.yaml", "metrics.jsonl", "telemetry.bin"
EVALUATION, ENVIRONMENT = "evaluation.json", "environment.json"
_LONGEST = 4 << 20  # bytes of a configuration that is shown


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What a run's directory holds.

    Attributes:
        path: of the directory.
        config: the text of its configuration; empty if there is none.
        lines: of its metrics.
        telemetry: None without any.
        evaluation: None without one.
        environment: what it ran on.
        notes: what is missing or cannot be read.
    """

    path: Path
    config: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    telemetry: History | None = None
    evaluation: EvaluationFile | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For titles and legends."""
        return self.path.resolve().name

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The lines of a kind."""
        return [line for line in self.lines if line["kind"] == kind]

    def column(self, kind: str, name: str) -> tuple[list[float], list[float]]:
        """Epochs, and a number of the lines of a kind, where there is one."""
        found = [
            (line["epoch"], line[name])
            for line in self.of(kind)
            if _is_number(line.get("epoch")) and _is_number(line.get(name))
        ]
        return [x for x, _ in found], [y for _, y in found]


def read_run(path: Path) -> RunFiles:
    """Read a run's directory.

    Raises:
        UserError: there is no run in it, or its metrics are damaged.
    """
    if not (path / CONFIG).is_file() and not (path / METRICS).is_file():
        raise UserError(f"{path} holds no run: it has neither {CONFIG} nor {METRICS}")
    notes: list[str] = []
    lines = read_metrics(path / METRICS)
    if not any(line.get("kind") == "epoch" for line in lines):
        notes.append("The run ended before its first epoch did.")
    history = _read(path / TELEMETRY, read_telemetry, notes, "no telemetry")
    evaluation = _read(
        path / EVALUATION,
        read_evaluation,
        notes,
        "no evaluation of single images: the run has not ended, or --no-report left it out",
    )
    return RunFiles(
        path=path,
        config=_text(path / CONFIG),
        lines=lines,
        telemetry=history,
        evaluation=evaluation,
        environment=_environment(path / ENVIRONMENT),
        notes=tuple(notes),
    )


def _read(path: Path, reader: Any, notes: list[str], otherwise: str) -> Any:
    if not path.exists():
        notes.append(f"There is {otherwise} ({path.name}).")
        return None
    try:
        return reader(path)
    except UserError as error:
        notes.append(str(error))
        return None


def _text(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _LONGEST:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _environment(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in found.items() if is_plain(v)} if isinstance(found, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
