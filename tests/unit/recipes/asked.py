"""Settings with everything derived: what a table of the paper can be held against."""

from __future__ import annotations

from typing import Any

import yaml

from normfree.models import model_config
from normfree.recipes import get_recipe


def network(name: str) -> Any:
    """The configuration of a recipe's network, its options and settings applied."""
    recipe = get_recipe(name)
    pairs = (option.split("=", 1) for option in recipe.model_options)
    fields = {field: yaml.safe_load(value) for field, value in pairs}
    own = ("drop_rate", "stochastic_depth_rate", "train_size", "test_size", "activation")
    given = {field: getattr(recipe, field) for field in own if getattr(recipe, field) is not None}
    return model_config(recipe.model, **fields, **given)


def settings(name: str, *fields: str) -> tuple[Any, ...]:
    """Some settings of a recipe."""
    return tuple(getattr(get_recipe(name), field) for field in fields)
