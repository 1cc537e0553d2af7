"""Telemetry on disk: a line of JSON, then records of one size, so that appending is all it takes.

``normfree telemetry 1``, then one line of JSON (``layers``, ``thresholds``, ``columns``), then for
each reading the step and the steps counted as two little-endian int64, and the values as float32.
A process that is killed may leave half a record at the end: that one is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from normfree.analysis.reading import COLUMNS, Reading
from normfree.errors import UserError

_MAGIC = b"normfree telemetry 1\n"
_LONGEST = 16 << 20  # bytes of the names
_LARGEST = 1 << 30  # bytes of a file


class History(NamedTuple):
    """All readings of a run.

    Attributes:
        layers: names of the parameters.
        thresholds: λ of each; None where it is not clipped by units.
        steps: number of the step that each reading follows.
        values: readings × parameters × :data:`~normfree.analysis.reading.COLUMNS`.
    """

    layers: tuple[str, ...]
    thresholds: tuple[float | None, ...]
    steps: Int64[np.ndarray, " readings"]
    values: Float32[np.ndarray, "readings layers columns"]

    def column(self, name: str) -> Float32[np.ndarray, "readings layers"]:
        """One of the columns."""
        return self.values[:, :, COLUMNS.index(name)]


class TelemetryFile:
    """Appends readings to a file.

    Args:
        path: of the file.
        layers: names of the parameters.
        thresholds: λ of each.
        after: keep the readings that are there up to this step and drop the rest.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "telemetry.bin"
        >>> file = TelemetryFile(path, ["w"], [0.01])
        >>> file.write(20, Reading(("w",), np.ones((1, 8), np.float32), steps=20))
        >>> file.close()
        >>> read_telemetry(path).steps.tolist()
        [20]
    """

    def __init__(
        self,
        path: Path,
        layers: Sequence[str],
        thresholds: Sequence[float | None],
        after: int = 0,
    ) -> None:
        self.path, self._layers = path, tuple(layers)
        header = {"layers": list(layers), "thresholds": list(thresholds), "columns": list(COLUMNS)}
        self._header = _MAGIC + json.dumps(header).encode() + b"\n"
        self._open(after)

    def _open(self, after: int) -> None:
        path, content = self.path, self._header
        kept = read_telemetry(path) if after and path.exists() else None
        if kept is not None and kept.layers == self._layers:
            chosen = kept.steps <= after
            for step, values in zip(kept.steps[chosen], kept.values[chosen], strict=True):
                content += _record(int(step), Reading(kept.layers, values, 0))
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
        self._file = path.open("ab")

    def rewind(self, step: int) -> None:
        """Drop the readings after a step: the run goes on from there."""
        self.close()
        self._open(step)

    def write(self, step: int, reading: Reading) -> None:
        """Append a reading."""
        self._file.write(_record(step, reading))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_telemetry(path: Path) -> History:
    """The readings of a file.

    Raises:
        UserError: it is not one that a run writes.
    """
    damaged = UserError(f"{path} is not the telemetry of a run; move it away to report without it")
    try:
        if path.stat().st_size > _LARGEST:
            raise damaged
        content = path.read_bytes()
    except OSError:
        raise damaged from None
    end = content.find(b"\n", len(_MAGIC), len(_MAGIC) + _LONGEST)
    if not content.startswith(_MAGIC) or end < 0:
        raise damaged
    try:
        header = json.loads(content[len(_MAGIC) : end])
    except (ValueError, RecursionError):
        raise damaged from None
    if not _is_header(header):
        raise damaged
    layers = tuple(header["layers"])
    record = np.dtype([("steps", "<i8", 2), ("values", "<f4", (len(layers), len(COLUMNS)))])
    body = content[end + 1 :]
    records = np.frombuffer(body, record, count=len(body) // record.itemsize)
    return History(
        layers, tuple(header["thresholds"]), records["steps"][:, 0].copy(), records["values"].copy()
    )


def _record(step: int, reading: Reading) -> bytes:
    return np.array([step, reading.steps], "<i8").tobytes() + reading.values.astype("<f4").tobytes()


def _is_header(header: Any) -> bool:
    """Whether it has names, as many thresholds, and the columns of this version."""
    if not isinstance(header, dict) or header.get("columns") != list(COLUMNS):
        return False
    layers, thresholds = header.get("layers"), header.get("thresholds")
    return (
        isinstance(layers, list)
        and isinstance(thresholds, list)
        and len(layers) == len(thresholds)
        and all(isinstance(name, str) for name in layers)
        and all(value is None or _is_number(value) for value in thresholds)
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
