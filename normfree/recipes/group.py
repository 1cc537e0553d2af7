"""Recipes that belong together: those of one table or figure of the paper, or our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from normfree.recipes.contract import Contract
from normfree.train.recipe import Recipe


class Row(NamedTuple):
    """A recipe and what it promises."""

    recipe: Recipe
    contract: Contract


@dataclass(frozen=True, kw_only=True)
class Group:
    """Recipes that are listed together.

    Attributes:
        title: the table or figure, and what is compared in it.
        pattern: shell wildcards that match the names of these recipes and no others; empty where
            there are none.
        rows: the recipes.
    """

    title: str
    pattern: str = ""
    rows: tuple[Row, ...]
