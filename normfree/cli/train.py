"""``normfree train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from normfree.cli.options import UsageError, parse
from normfree.errors import UserError
from normfree.recipes import DEFAULT, get_contract, get_recipe, list_recipes
from normfree.train.config import Recipe, recipe_from_dict
from normfree.train.run_dir import find_run_directory


def run(words: Sequence[str]) -> None:
    """Train a recipe: ``normfree train [RECIPE] [options]``."""
    named = bool(words) and not words[0].startswith("-")
    name, options = (words[0], words[1:]) if named else (DEFAULT, words)
    recipe = _parse(options, name)
    if recipe.resume:
        saved = _saved_recipe(recipe, name if named else None)
        recipe = parse(Recipe, options, prog="normfree train", default=saved)
    from normfree.train.fit import fit

    fit(recipe, Console())


def _parse(options: Sequence[str], name: str) -> Recipe:
    try:
        default = get_recipe(name)
    except UserError as error:
        raise UsageError(str(error)) from error
    return parse(
        Recipe,
        options,
        prog=f"normfree train {name}",
        default=default,
        description=f"{get_contract(name).title}\n\nThe recipes: {', '.join(list_recipes())}.",
    )


def _saved_recipe(given: Recipe, name: str | None) -> Recipe:
    """The settings of the run to go on with: they need not be typed again."""
    directory = find_run_directory(given)
    saved = recipe_from_dict(directory.read_config()["recipe"])
    if name is not None and saved.name != name:
        raise UserError(
            f"{directory.path} is a run of {saved.name}, not of {name}; leave {name} out"
        )
    return replace(saved, out=directory.path)
