"""``normfree recipes``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Annotated

from rich.console import Console
from rich.table import Table

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.errors import UserError, unknown_name
from normfree.recipes import Contract, Group, get_contract, list_recipes, recipe_groups, sweeps
from normfree.schema import record

#: Columns of a terminal from which a table has room for hardware and time.
_WIDE = 120


@record
class Options:
    """What can be trained, and what to expect: measured here, or said by the paper only."""

    pattern: Annotated[str | None, Positional()] = None
    """Recipes to list, with shell wildcards in quotes: 'imagenet_*'. A name shows its contract."""
    all: bool = False
    """List every recipe, rather than a line for those of a table or figure."""
    json: bool = False
    """Print one JSON list of contracts: of those that match, or of all."""
    sweep: str | None = None
    """Print the commands of a sweep: runs of one recipe that are too many to have a name each."""


def run(words: Sequence[str]) -> None:
    """List the recipes: ``normfree recipes [PATTERN]``."""
    options = parse(Options, words, prog="normfree recipes")
    console = Console()
    pattern = options.pattern
    if options.sweep is not None:
        _commands(console, options.sweep)
    elif pattern is not None and not list_recipes(pattern):
        raise UserError(f"no recipe matches {pattern!r}; normfree recipes --all lists them")
    elif options.json:
        names = list_recipes(pattern or "*")
        say(json.dumps([{"recipe": name, **asdict(get_contract(name))} for name in names]))
    elif pattern in list_recipes():
        _show(console, get_contract(pattern))
    else:
        _list(console, pattern, everything=options.all)


def _list(console: Console, pattern: str | None, *, everything: bool) -> None:
    """Tables of recipes; only our own and the plain ones in full, unless more was asked for."""
    if pattern is not None or everything:
        console.print(_table(recipe_groups(), console.width, pattern or "*"))
    else:
        console.print(
            _table([group for group in recipe_groups() if not group.pattern], console.width)
        )
        console.print()
        console.print(_overview([group for group in recipe_groups() if group.pattern]))
        console.print("\nnormfree recipes 'PATTERN' lists those; normfree recipes NAME says more")
        console.print(f"sweeps (normfree recipes --sweep NAME): {', '.join(sweeps())}")
    console.print("\nnormfree train RECIPE; normfree train RECIPE --help-all lists every setting")


def _commands(console: Console, name: str) -> None:
    """A comment that says what the sweep is, then a command a line: a shell script."""
    if name not in sweeps():
        raise unknown_name("sweep", name, sweeps())
    sweep = sweeps()[name]
    for line in (f"# {sweep.title}", f"# Source: {sweep.source}", *sweep.commands()):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show(console: Console, contract: Contract) -> None:
    """A contract, as the header of a recipe's file has it."""
    lines = asdict(contract)
    console.print(f"{lines.pop('title')}\n", markup=False, highlight=False)
    for name, value in lines.items():
        if not value:
            continue
        line = f"{name.capitalize() + ':':11}{value}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(groups: Iterable[Group], columns: int, pattern: str = "*") -> Table:
    """A row for each recipe; a number is in the column of who says it.

    Where there is no room, hardware and time are left to ``normfree recipes NAME``.
    """
    wide = columns >= _WIDE
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    for heading in (*(("hardware", "time") if wide else ()), "measured", "paper"):
        table.add_column(heading)
    for group in groups:
        rows = [row for row in group.rows if fnmatchcase(row.recipe.name, pattern)]
        if rows:
            table.add_row(f"[dim]{group.title}[/dim]")
        for recipe, contract in rows:
            measured = contract.status == "measured"
            table.add_row(
                recipe.name,
                *((contract.hardware, contract.time) if wide else ()),
                contract.expected if measured else "",
                "" if measured else contract.expected,
            )
    return table


def _overview(groups: Iterable[Group]) -> Table:
    """A row for each group: how many recipes a pattern lists."""
    table = Table(box=None, pad_edge=False)
    table.add_column("pattern", no_wrap=True)
    table.add_column("recipes", justify="right")
    table.add_column("of")
    for group in groups:
        table.add_row(group.pattern, str(len(group.rows)), group.title)
    return table
