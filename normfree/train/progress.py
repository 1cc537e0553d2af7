"""What a person sees of a run while it trains."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from normfree.errors import printable
from normfree.report.metrics import headline
from normfree.train.derivation import derivation
from normfree.train.resolve import Resolved
from normfree.train.span import Span


class Progress:
    """A bar on a terminal, plain lines elsewhere; a line for every epoch on both.

    Args:
        console: where to write; None writes nothing.
        span: how long the run is.
        step: steps already done.
    """

    def __init__(self, console: Console | None, span: Span, step: int = 0) -> None:
        self.console = console or Console(quiet=True)
        self.span = span
        self.first_step = self.step = step
        self.began = time.perf_counter()
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(self._epoch(), total=span.steps, completed=step, numbers="")

    def __enter__(self) -> Progress:
        """Show the bar."""
        self.began = time.perf_counter()
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        self.bar.stop()

    def note(self, text: str) -> None:
        """Print a line of text."""
        self.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def show_derivation(self, resolved: Resolved) -> None:
        """Print what was derived from the recipe."""
        table = Table(title=Text(printable(resolved.recipe.name)), title_justify="left", box=None)
        for heading in ("", "value", "from"):
            table.add_column(heading)
        for row in derivation(resolved):
            table.add_row(*(Text(printable(cell)) for cell in row))
        self.console.print(table)

    def advance(self) -> None:
        """One step is done."""
        self.step += 1
        self.bar.update(self.task, advance=1, description=self._epoch())

    def rewind(self, step: int) -> None:
        """Only so many steps are done, after all."""
        self.step = step
        self.bar.update(self.task, completed=step, description=self._epoch())

    def report(self, line: dict[str, Any]) -> None:
        """Show a ``train`` line of the metrics."""
        numbers = (
            f"loss {line['loss']:.3f}  lr {line['lr']:.4f}  "
            f"{line['images_per_second']:.0f} images/s  {self._left()} left"
        )
        self.bar.update(self.task, numbers=numbers)
        if not self.console.is_terminal:
            self.note(f"step {line['step']}/{self.span.steps}  {numbers}")

    def report_epoch(self, line: dict[str, Any]) -> None:
        """Print an ``epoch`` line of the metrics."""
        text = (
            f"epoch {line['epoch']}/{self.span.epochs}  "
            f"train {line['train_accuracy']:.2%} loss {line['train_loss']:.3f}"
        )
        if (metric := headline(line)) is not None:
            name = "" if metric == "top1" else "mAP "
            text += f"  val {name}{line[f'val_{metric}']:.2%}"
            if (averaged := line.get(f"val_{metric}_ema")) is not None:
                text += f"  EMA {averaged:.2%}"
        text += f"  {line['seconds']:.1f} s training"
        if "eval_seconds" in line:
            text += f" + {line['eval_seconds']:.1f} s evaluation"
        self.note(text)

    def _epoch(self) -> str:
        last = self.span.epochs
        return f"epoch {min(self.span.epoch_of(self.step), last)}/{last}"

    def _left(self) -> str:
        spent = time.perf_counter() - self.began
        steps = self.span.steps - self.step
        return duration(spent / max(self.step - self.first_step, 1) * steps)


def duration(seconds: float) -> str:
    """A duration in words.

    >>> duration(7.2), duration(754), duration(7260)
    ('7 s', '12 min 34 s', '2 h 01 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{minutes} min {rest:02d} s" if hours == 0 else f"{hours} h {minutes:02d} min"


class Stopwatch:
    """Time between two readings, without what was spent on other things."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        seconds, self.began = now - self.began, now
        return max(seconds, 1e-9)

    def skip(self, seconds: float) -> None:
        """Leave some seconds out of the current lap."""
        self.began += seconds
