"""Recipes: one file each, a header that says what it promises and a value ``RECIPE``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from normfree.errors import unknown_name
from normfree.recipes import digits, fashion_mnist, folder, imagenet_nfnet_f0
from normfree.recipes.contract import Contract, parse_contract
from normfree.train.config import Recipe

__all__ = ["DEFAULT", "Contract", "get_contract", "get_recipe", "list_recipes"]

#: What ``normfree train`` trains when it is not told.
DEFAULT = "digits"

_MODULES: Mapping[str, ModuleType] = MappingProxyType(
    {module.RECIPE.name: module for module in (digits, fashion_mnist, folder, imagenet_nfnet_f0)}
)


def list_recipes() -> list[str]:
    """Names of the recipes.

    >>> DEFAULT in list_recipes()
    True
    """
    return list(_MODULES)


def get_recipe(name: str) -> Recipe:
    """A recipe by name; ``dataclasses.replace`` changes its settings.

    Raises:
        UserError: there is none of that name.

    >>> get_recipe("digits").model
    'nfnet_pico'
    """
    recipe: Recipe = _module(name).RECIPE
    return recipe


def get_contract(name: str) -> Contract:
    """What a recipe promises.

    >>> get_contract("digits").command
    'normfree train digits'
    """
    return parse_contract(_module(name).__doc__ or "")


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        raise unknown_name("recipe", name, _MODULES)
    return _MODULES[name]
