"""What benchmarks share: tables, files of results, bounds of options, code of the checkout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from normfree.errors import UsageError, UserError


def check_bounds(options: Any, least: Mapping[str, int]) -> None:
    """Refuse numbers that are too small; None is not a number.

    Raises:
        UsageError: one is.
    """
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} must be at least {bound}, not {value}")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
    """Print a table.

    Args:
        headings: of the columns.
        rows: cells.
        left: number of columns that are text; the others are numbers, aligned at the right.
    """
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A narrow terminal, a file or a pipe would otherwise cut columns off.
    width = Console(width=1000).measure(table).maximum
    Console(width=width).print(table, crop=False, soft_wrap=False)


def milliseconds(seconds: Mapping[str, float], digits: int = 1) -> tuple[str, str]:
    """Median and quartiles of a latency, as cells.

    >>> milliseconds({"median": 0.0123, "low": 0.012, "high": 0.02})
    ('12.3', '12.0–20.0')
    """
    low, median, high = (f"{1000 * seconds[key]:.{digits}f}" for key in ("low", "median", "high"))
    return median, f"{low}–{high}"


def times(ratio: Mapping[str, float]) -> str:
    """A ratio and its range, as a cell.

    >>> times({"median": 1.5, "low": 1.4, "high": 1.65})
    '1.50× (1.40–1.65)'
    """
    return f"{ratio['median']:.2f}× ({ratio['low']:.2f}–{ratio['high']:.2f})"


def write_json(file: Path | None, found: Mapping[str, Any]) -> None:
    """Write what was found, and the directory if there is none; nothing if there is no file."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=2, default=str) + "\n")


def load_from_checkout(name: str, package: Path = Path(__file__).parents[1]) -> ModuleType:
    """A peer's side of a comparison, which the checkout has beside the package.

    Args:
        name: of a file in ``benchmarks``, without its ending.
        package: directory of the package.

    Raises:
        UserError: this is an installed package without a checkout.
    """
    file = package.parent / "benchmarks" / f"{name}.py"
    if not file.is_file():
        raise UserError(
            "--peers compares with code that is not part of the package "
            f"(benchmarks/{name}.py): run it from a checkout of the repository"
        )
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
