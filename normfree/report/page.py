"""A run, or several, as one page of HTML that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.report import plots
from normfree.report.choice import kept
from normfree.report.classes import class_table, confusion, images
from normfree.report.files import RunFiles, read_run
from normfree.report.metrics import HEADLINES
from normfree.report.style import STYLE

Section = tuple[str, str]
"""Heading and content."""

#: Label and field of the last ``epoch`` line, or of the ``test`` line.
FACTS = tuple(
    fact
    for metric, name in HEADLINES.items()
    for fact in (
        (f"best validation {name}", f"val_{metric}"),
        ("the same, averaged weights", f"val_{metric}_ema"),
        (f"test {name}", f"test_{metric}"),
    )
)


def write_report(paths: Sequence[Path], out: Path) -> Path:
    """Write the report of a run, or the comparison of several.

    Args:
        paths: directories of runs; of one that is not finished, there is what it has measured.
        out: the page.

    Returns:
        The page's path.

    Raises:
        UserError: a directory holds no run, or a file of it is damaged.
    """
    runs = [read_run(path) for path in paths]
    if not runs:
        raise UserError("a report is of one run or several; name their directories")
    write_atomic(out, (run_page(runs[0]) if len(runs) == 1 else compare_page(runs)).encode())
    return out


def run_page(run: RunFiles) -> str:
    """The page of one run."""
    return html_page(run.name, _facts(run) + _notes(run), list(_sections(run)))


def compare_page(runs: Sequence[RunFiles]) -> str:
    """The page of several runs, side by side."""
    sections = [
        ("Results", _results(runs)),
        ("Curves", _plots(plots.curves(runs))),
        ("Speed", _plots(plots.curves(runs, plots.SPEED))),
        ("Settings that differ", _differences(runs)),
    ]
    return html_page(f"{len(runs)} runs", "".join(map(_notes, runs)), sections)


def _sections(run: RunFiles) -> Iterator[Section]:
    yield "Curves", _plots(plots.curves([run]))
    if run.telemetry is not None and len(run.telemetry.steps):
        yield "Clipping", _plots(plots.clipping(run.telemetry))
    found = run.evaluation
    if found is not None and found.signal:
        said = (
            "<p class=soft>Measured with the trained weights on validation images. The analytic "
            "sequence holds at initialization, for branches that are switched on.</p>"
        )
        yield "Signal propagation", said + _plots(plots.propagation(found.signal))
    yield "Throughput", _plots(plots.curves([run], plots.SPEED))
    if found is not None and found.confusion:
        yield "Confusion", confusion(found)
        yield "Classes", class_table(found)
    if found is not None and found.worst:
        yield "Largest losses", images(found, found.worst)
    if found is not None and found.confused:
        yield "Most confused images", images(found, found.confused)
    if run.config:
        yield (
            "Configuration",
            f"<details><summary>config.yaml</summary>{_pre(run.config)}</details>",
        )
    if run.environment:
        yield "Environment", _table(run.environment)


def html_page(title: str, head: str, sections: Sequence[Section]) -> str:
    """A whole page, with links to its sections."""
    links = "".join(f'<a href="#s{n}">{escape(name)}</a>' for n, (name, _) in enumerate(sections))
    body = "".join(
        f'<section id="s{n}"><h2>{escape(name)}</h2>{content}</section>'
        for n, (name, content) in enumerate(sections)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{escape(title)}</h1><nav>{links}</nav>{head}</header>"
        f"<main>{body}</main><footer>Made by normfree.</footer></body></html>\n"
    )


def _facts(run: RunFiles) -> str:
    items = [f"<li><b>{value}</b><span>{escape(name)}</span></li>" for name, value in facts(run)]
    return f'<ul class="facts">{"".join(items)}</ul>'


def facts(run: RunFiles) -> Iterator[tuple[str, str]]:
    """What a run came to, in a few numbers."""
    steps = max((line["step"] for line in run.lines), default=0)
    yield "steps", f"{steps:,}"
    epochs = run.of("epoch")
    if epochs:
        yield "epochs", str(epochs[-1].get("epoch"))
    for name, field in FACTS:
        found = [line[field] for line in run.lines if isinstance(line.get(field), int | float)]
        if found:
            yield name, f"{max(found):.2%}"
    if (chosen := kept(epochs)) is not None:
        epoch, better = chosen
        yield "weights kept", f"{better.weights}, epoch {epoch}"
    for name, field in (("time of training", "seconds"), ("time of evaluation", "eval_seconds")):
        seconds = [line[field] for line in epochs if isinstance(line.get(field), int | float)]
        if seconds:
            yield name, _duration(sum(seconds))
    speed = sorted(run.column("train", "images_per_second")[1])
    if speed:
        yield "images per second, median", f"{speed[len(speed) // 2]:,.0f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _notes(run: RunFiles) -> str:
    return "".join(f'<p class="note">{escape(run.name)}: {escape(note)}</p>' for note in run.notes)


def _plots(charts: Iterator[str]) -> str:
    return f'<div class="plots">{"".join(charts)}</div>'


def _results(runs: Sequence[RunFiles]) -> str:
    found = [dict(facts(run)) for run in runs]
    names = list(dict.fromkeys(name for one in found for name in one))
    head = "".join(f"<th class=n>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{escape(run.name)}</td>"
        + "".join(f"<td class=n>{escape(one.get(name, '–'))}</td>" for name in names)
        + "</tr>"
        for run, one in zip(runs, found, strict=True)
    )
    return f'<div class="wide"><table><tr><th>run</th>{head}</tr>{rows}</table></div>'


def _differences(runs: Sequence[RunFiles]) -> str:
    flat = [flat_settings(run.config) for run in runs]
    names = list(dict.fromkeys(name for one in flat for name in one))
    different = [name for name in names if len({one.get(name) for one in flat}) > 1]
    if not different:
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{escape(one.get(name, '–')[:200])}</td>" for one in flat)
        + "</tr>"
        for name in different
    )
    return f'<div class="wide"><table><tr><th>setting</th>{head}</tr>{rows}</table></div>'


def flat_settings(text: str) -> dict[str, str]:
    r"""Dotted name → value, of a configuration as a run writes it.

    >>> flat_settings("recipe:\n  seed: 0\n  batch:\n    size: 24\n  sizes:\n  - 1\n  - 2\n")
    {'recipe.seed': '0', 'recipe.batch.size': '24', 'recipe.sizes': '1, 2'}
    """
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        indent, words = len(line) - len(line.lstrip()), line.strip()
        if words.startswith("- ") and path:
            name = ".".join(key for _, key in path)
            found[name] = ", ".join(filter(None, [found.get(name, ""), words[2:]]))
            continue
        while path and path[-1][0] >= indent:
            path.pop()
        key, colon, value = words.partition(":")
        path.append((indent, key))
        if colon and value.strip():
            found[".".join(key for _, key in path)] = value.strip()
    return found


def _table(values: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>"
        for name, value in values.items()
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
