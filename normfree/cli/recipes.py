"""``normfree recipes``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from normfree.cli.options import parse
from normfree.recipes import get_contract, list_recipes


@dataclass(frozen=True, kw_only=True)
class Options:
    """What can be trained, and what to expect: measured here, or said by the paper only."""


def run(words: Sequence[str]) -> None:
    """List the recipes."""
    parse(Options, words, prog="normfree recipes")
    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "hardware", "time", "measured", "paper"):
        table.add_column(heading)
    for name in list_recipes():
        contract = get_contract(name)
        measured = contract.status == "measured"
        table.add_row(
            name,
            contract.hardware,
            contract.time,
            contract.expected if measured else "",
            "" if measured else contract.expected,
        )
    console = Console()
    console.print(table)
    console.print("\nnormfree train RECIPE; normfree train RECIPE --help lists every setting")
