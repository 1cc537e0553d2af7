"""Recipes: settings of a run, each with what it promises.

The ones made by hand have a file each, whose header is the contract; those of a table or figure of
the paper are made together, by a few functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from types import MappingProxyType

from normfree.errors import UserError
from normfree.recipes import (
    ablations,
    clipping_study,
    digits,
    fashion_mnist,
    finetune,
    folder,
    imagenet,
    nf_regnets,
    transfer,
)
from normfree.recipes.contract import Contract, parse_contract
from normfree.recipes.group import Group, Row
from normfree.recipes.sweep import Sweep
from normfree.train.recipe import Recipe

__all__ = [
    "DEFAULT",
    "Contract",
    "Group",
    "Sweep",
    "get_contract",
    "get_recipe",
    "list_recipes",
    "recipe_groups",
    "sweeps",
]

#: What ``normfree train`` trains when no recipe is named.
DEFAULT = "digits"

_OURS = (digits, fashion_mnist, folder, finetune)
_FAMILIES = (imagenet, ablations, clipping_study, transfer, nf_regnets)


@cache
def recipe_groups() -> tuple[Group, ...]:
    """All recipes: our own first, then by table and figure of the paper.

    >>> recipe_groups()[0].title
    'ours'
    """
    own = tuple(Row(module.RECIPE, parse_contract(module.__doc__ or "")) for module in _OURS)
    families = (group for family in _FAMILIES for group in family.groups())
    return (Group(title="ours", rows=own), *families)


@cache
def sweeps() -> Mapping[str, Sweep]:
    """The sweeps of the paper that are too many to have a recipe each.

    >>> len(sweeps()["unclipped_layers"].runs)
    64
    """
    return MappingProxyType({sweep.name: sweep for sweep in (clipping_study.layer_sweep(),)})


@cache
def _rows() -> Mapping[str, Row]:
    rows = [row for group in recipe_groups() for row in group.rows]
    return MappingProxyType({row.recipe.name: row for row in rows})


def list_recipes(pattern: str = "*") -> list[str]:
    """Names of the recipes.

    Args:
        pattern: shell wildcards; everything by default.

    >>> list_recipes("imagenet_nfnet_f0_*width")
    ['imagenet_nfnet_f0_modified_width', 'imagenet_nfnet_f0_default_width']
    """
    return [name for name in _rows() if fnmatchcase(name, pattern)]


def get_recipe(name: str) -> Recipe:
    """A recipe by name; ``override`` changes its settings.

    Raises:
        UserError: there is none of that name.

    >>> get_recipe("digits").model.name
    'nfnet_pico'
    """
    return _row(name).recipe


def get_contract(name: str) -> Contract:
    """What a recipe promises.

    >>> get_contract("digits").command
    'normfree train digits'
    """
    return _row(name).contract


def _row(name: str) -> Row:
    rows = _rows()
    if name not in rows:
        near = get_close_matches(name, rows, n=3, cutoff=0.6)
        hint = f"did you mean {', '.join(near)}?" if near else "normfree recipes lists them"
        raise UserError(f"unknown recipe {name!r}; {hint}")
    return rows[name]
