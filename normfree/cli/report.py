"""``normfree report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.schema import record


@record
class Options:
    """One page on a run, or on several side by side; a run need not have ended."""

    runs: Annotated[tuple[str, ...], Positional()]
    """Directories of runs."""
    out: str | None = None
    """The page. None: report.html in the run's directory; of several, in this one."""


def run(words: Sequence[str]) -> None:
    """Write a page: ``normfree report RUN…``."""
    known = {"-o": "--out"}
    options = parse(Options, [known.get(word, word) for word in words], prog="normfree report")
    from normfree.report.page import write_report

    runs = [Path(name) for name in options.runs]
    default = runs[0] / "report.html" if len(runs) == 1 else Path("report.html")
    out = default if options.out is None else Path(options.out)
    say(f"report: {write_report(runs, out)}")
