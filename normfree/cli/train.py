"""``normfree train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from normfree.cli.options import UsageError, parse
from normfree.errors import UserError
from normfree.recipes import DEFAULT, get_contract, get_recipe
from normfree.recipes.smoke import smoke
from normfree.train.config import Recipe, recipe_from_dict
from normfree.train.run_dir import find_run_directory

#: Typing the first takes back what a recipe says by the second, which would outdo it.
OUTDONE_BY = {"epochs": "steps", "base_lr": "lr", "warmup_epochs": "warmup_steps"}


def run(words: Sequence[str]) -> None:
    """Train a recipe: ``normfree train [RECIPE] [options]``."""
    named = bool(words) and not words[0].startswith("-")
    name, options = (words[0], words[1:]) if named else (DEFAULT, words)
    tried, options = "--smoke" in options, [word for word in options if word != "--smoke"]
    recipe = _parse(options, name, tried=tried)
    if recipe.resume:
        saved = _saved_recipe(recipe, recipe.name if named else None)
        recipe = parse(Recipe, options, prog="normfree train", default=_open_to(saved, options))
    from normfree.train.fit import fit

    fit(recipe, Console())


def _parse(options: Sequence[str], name: str, *, tried: bool) -> Recipe:
    try:
        default = get_recipe(name)
    except UserError as error:
        raise UsageError(str(error)) from error
    if tried:
        default = smoke(default)
    return parse(
        Recipe,
        options,
        prog=f"normfree train {name}",
        default=_open_to(default, options),
        description=f"{get_contract(name).title}\n\nWith --smoke, two steps of it on synthetic "
        "images with a small network, to see that it runs. `normfree recipes` lists the recipes.",
    )


def _open_to(recipe: Recipe, options: Sequence[str]) -> Recipe:
    """The recipe, silent where it would outdo what was typed."""
    typed = _typed(options)
    silent: dict[str, Any] = {by: None for name, by in OUTDONE_BY.items() if name in typed}
    for name, by in OUTDONE_BY.items():
        if {name, by} <= typed:
            one, other = (f"--{word.replace('_', '-')}" for word in (name, by))
            raise UsageError(f"give {one} or {other}, not both: {other} outdoes {one}")
    return replace(recipe, **silent)


def _typed(options: Sequence[str]) -> set[str]:
    """The settings that are on the command line."""
    flags = [word.partition("=")[0] for word in options if word.startswith("--")]
    return {flag.removeprefix("--").replace("-", "_") for flag in flags}


def _saved_recipe(given: Recipe, name: str | None) -> Recipe:
    """The settings of the run to go on with: they need not be typed again."""
    directory = find_run_directory(given)
    saved = recipe_from_dict(directory.read_config()["recipe"])
    if name is not None and saved.name != name:
        raise UserError(
            f"{directory.path} is a run of {saved.name}, not of {name}; leave {name} out"
        )
    return replace(saved, out=directory.path)
