"""Read ``metrics.jsonl``: what a run measured, one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normfree.errors import UserError

#: Metric that chooses weights → its name, of images with one label each, and with several.
HEADLINES = {"top1": "accuracy", "map": "mean average precision"}

_KINDS = ("train", "epoch", "test")
_LONGEST = 200  # letters of a text
_LARGEST = 2**63  # of a whole number


def headline(line: Mapping[str, Any]) -> str | None:
    """The metric that chooses weights, of an evaluated ``epoch`` line; None of any other.

    >>> headline({"kind": "epoch", "val_map": 0.5}), headline({"kind": "epoch"})
    ('map', None)
    """
    return next((name for name in HEADLINES if f"val_{name}" in line), None)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; nothing if there is no file.

    A process that is killed may leave half a line at the end: that one is left out.

    Raises:
        UserError: a line is not what a run writes.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_parsed(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1)]


def _parsed(line: bytes, name: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not _is_whole(fields):
        raise UserError(f"{name} is damaged; remove the line, or move the file away")
    return fields


def _is_whole(fields: object) -> bool:
    """Whether a line has a kind, a step, and nothing that cannot be drawn or shown."""
    if not isinstance(fields, dict) or fields.get("kind") not in _KINDS:
        return False
    step = fields.get("step")
    return type(step) is int and step >= 0 and all(map(is_plain, fields.values()))


def is_plain(value: object) -> bool:
    """Whether it is a finite number, a short text, or nothing."""
    if type(value) is int:
        return abs(value) < _LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, str) and len(value) <= _LONGEST)
