"""Settings with everything derived: what a table of the paper can be held against."""

from __future__ import annotations

from typing import Any

from normfree.models import model_config
from normfree.recipes import get_recipe
from normfree.train.flags import current


def network(name: str) -> Any:
    """The configuration of a recipe's network, its options and settings applied."""
    model = get_recipe(name).model
    own = ("drop_rate", "stochastic_depth_rate", "train_size", "test_size", "activation")
    given = {field: getattr(model, field) for field in own if getattr(model, field) is not None}
    return model_config(model.name, **model.options, **given)


def settings(name: str, *flags: str) -> tuple[Any, ...]:
    """Some settings of a recipe, by their flat names."""
    return tuple(current(get_recipe(name), flag) for flag in flags)
