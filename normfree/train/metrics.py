"""What a run measured: one JSON object a line, in the order of the steps.

Lines of kind ``train``, one every ``log_every`` steps, hold ``step``, ``epoch``, ``loss``,
``accuracy``, ``clipped`` (share of units whose gradient AGC clipped), ``lr``,
``images_per_second``, ``data_wait`` (share of the time in which training waited for images),
``grad_norm`` (L2 norm of the last step's gradient, before it was clipped; ``null`` where no
gradient was whole at any time, because weights were updated in the backward pass) and ``skipped``
(batches that the run has left out so far).
Lines of kind ``epoch`` hold ``train_loss``, ``train_accuracy``, ``seconds`` (of training) and,
where the epoch was evaluated, ``eval_seconds`` (of that, and of keeping the best weights),
``val_top1``, ``val_top5`` (with more than five classes), ``val_loss``, the same of the averaged
weights, ending in ``_ema``, and which of the two are ``better``, ``raw`` or ``averaged``. Of images
with several labels each, ``val_map``, ``val_micro_f1`` and ``val_macro_f1`` take the place of the
accuracies. A line of kind ``test`` is written once, at the end of a run that has test images:
``test_top1`` and so on, of the weights that validation chose. A number that is not finite is
written as ``null``. Two runs of one recipe on one machine differ in
:data:`TIMINGS` only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normfree.atomic import write_atomic
from normfree.report.metrics import is_plain, read_metrics
from normfree.train.health.writing import writing

#: Fields that say how long something took.
TIMINGS = frozenset({"images_per_second", "data_wait", "seconds", "eval_seconds"})


class MetricsFile:
    """Appends lines to ``metrics.jsonl``; each is on its way to the disk before the next step.

    Args:
        path: of the file.
        after: keep the lines that are there up to this step and drop the rest: the run goes on
            from there.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        self.path = path
        self._open(after)

    def _open(self, after: int) -> None:
        kept = [line for line in read_metrics(self.path) if line["step"] <= after]
        with writing("metrics", self.path):
            write_atomic(self.path, "".join(map(_line, kept)).encode())
            # Without a buffer: what cannot be written is not tried again when the file is closed.
            self._file = self.path.open("ab", buffering=0)
        self._written = {(line["kind"], line["step"]) for line in kept}

    def has(self, kind: str, step: int) -> bool:
        """Whether there is a line of this kind and step."""
        return (kind, step) in self._written

    def rewind(self, step: int) -> None:
        """Drop the lines after a step: the run goes on from there."""
        self.close()
        self._open(step)

    def write(self, **fields: Any) -> None:
        """Append a line."""
        self._written.add((fields["kind"], fields["step"]))
        with writing("metrics", self.path):
            left = memoryview(_line(fields).encode())
            while left:
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Wait until all lines are on the disk: no checkpoint may outlive the lines before it."""
        with writing("metrics", self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NoMetricsFile(MetricsFile):
    """Writes nothing: what ranks have but for the main one."""

    def __init__(self) -> None:
        self._written = set()

    def rewind(self, step: int) -> None:
        """Nothing to drop."""

    def write(self, **fields: Any) -> None:
        """Remember that there is such a line."""
        self._written.add((fields["kind"], fields["step"]))

    def sync(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to close."""


class Tee(MetricsFile):
    """Passes each line to a file, and then to others that read along.

    Args:
        file: keeps the lines.
        others: what else becomes of them.
    """

    def __init__(self, file: MetricsFile, others: Sequence[MetricsFile]) -> None:
        self._first, self._others = file, tuple(others)

    def has(self, kind: str, step: int) -> bool:
        """Whether there is a line of this kind and step."""
        return self._first.has(kind, step)

    def rewind(self, step: int) -> None:
        """Drop the lines after a step from all of them."""
        for sink in (self._first, *self._others):
            sink.rewind(step)

    def write(self, **fields: Any) -> None:
        """Pass a line on."""
        for sink in (self._first, *self._others):
            sink.write(**fields)

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        for sink in (self._first, *self._others):
            sink.sync()

    def close(self) -> None:
        """Close all of them."""
        for sink in (self._first, *self._others):
            sink.close()


def _line(fields: dict[str, Any]) -> str:
    finite = {name: value if is_plain(value) else None for name, value in fields.items()}
    return json.dumps(finite) + "\n"
