"""``normfree train``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union

from rich.console import Console

from normfree.cli.arguments import Option
from normfree.cli.options import parse_options
from normfree.errors import UsageError, UserError
from normfree.recipes import DEFAULT, get_contract, get_recipe, list_recipes
from normfree.recipes.smoke import smoke
from normfree.train.flags import SELECTOR, current, off_values, settings, words
from normfree.train.machine import free_cores, usable_cores
from normfree.train.recipe import Recipe
from normfree.train.run_dir import find_run_directory

EVERYDAY_GROUP = "everyday options"

#: What most people set, in the order in which they think of it: what ``--help`` shows.
EVERYDAY = (
    *("data", "model", "epochs", "batch_size", "lr", "clipping"),
    *("init", "out", "resume", "seed", "device", "threads", "precision", "workers"),
)

#: Component → heading of its options in ``--help-all``.
HEADINGS = {
    "data": "data",
    "model": "network",
    "batch": "batch and length",
    "length": "batch and length",
    "optimizer": "optimizer and learning rate",
    "schedule": "optimizer and learning rate",
    "clipping": "clipping",
    "sam": "sharpness-aware minimization and averaging",
    "ema": "sharpness-aware minimization and averaging",
    "loss": "loss",
    "augment": "augmentation",
    "compute": "computation",
    "ranks": "several processes (torchrun)",
    "health": "faults while training",
    "loop": "reports, evaluation and checkpoints",
    "place": "files",
}


def run(words: Sequence[str]) -> None:
    """Train a recipe: ``normfree train [RECIPE] [options]``."""
    named = bool(words) and not words[0].startswith("-")
    name, options = (words[0], words[1:]) if named else (DEFAULT, words)
    try:
        recipe, title = get_recipe(name), get_contract(name).title
    except UserError as error:
        raise UsageError(str(error)) from error
    try:
        given = parse_options(
            recipe_options(recipe),
            options,
            prog=f"normfree train {name}",
            description=f"{title}\n\n`normfree recipes` lists the recipes.",
            short=EVERYDAY_GROUP,
        )
    except UsageError as error:
        raise error if named else _recipe_comes_first(error, options) from None
    if given.pop("smoke", False):
        recipe = smoke(recipe)
    if given.get("resume"):
        recipe = _saved_recipe(recipe.override(**_files(given)), recipe.name if named else None)
    try:
        recipe = recipe.override(**given)
    except UserError as error:
        raise UsageError(f"{error} (see normfree train --help)") from None
    if "init" in given and "model" not in given and not recipe.place.resume:
        from normfree.train.init import with_network_of_init

        recipe = with_network_of_init(recipe, given)
    from normfree.train.fit import fit

    console = Console()
    fit(_with_threads(recipe, console), console)


def _with_threads(recipe: Recipe, console: Console) -> Recipe:
    """The recipe, computing with the cores that are idle now unless the user said how many.

    They are saved with the run, so that it goes on with as many.
    """
    if recipe.compute.threads is not None or "OMP_NUM_THREADS" in os.environ:
        return recipe
    free, usable = free_cores(), usable_cores()
    if free < usable:
        busy = f"other processes keep {usable - free} of {usable} cores busy"
        say = f"{busy}: computing on {free} (--threads {usable} takes all)"
        console.print(say, markup=False, highlight=False, soft_wrap=True)
    return recipe.override(threads=free)


def _recipe_comes_first(error: UsageError, options: Sequence[str]) -> UsageError:
    """The error, or what to do where a recipe was named after an option."""
    stray = next((word for word in options if word in list_recipes()), None)
    if stray is None or f"unexpected argument {stray!r}" not in str(error):
        return error
    return UsageError(f"the recipe comes first: normfree train {stray} [options]")


def recipe_options(recipe: Recipe) -> Iterator[Option]:
    """Every setting of a recipe as an option; the recipe's values are the defaults."""
    flags = list(dict.fromkeys(setting.flag for setting in settings(Recipe)))
    for flag in sorted(flags, key=lambda flag: EVERYDAY.index(flag) if flag in EVERYDAY else 99):
        homes = [setting for setting in settings(Recipe) if setting.flag == flag]
        kinds: list[Any] = [home.annotation for home in homes]
        if flag in off_values(Recipe):
            off = off_values(Recipe)[flag][1]
            kinds.append(Literal[off] if isinstance(off, str) else None if off is None else float)
        yield Option(
            name=flag,
            annotation=Union[tuple(kinds)],  # noqa: UP007 - made at run time
            help=homes[0].description + _belongs(homes),
            default=current(recipe, flag),
            group=EVERYDAY_GROUP
            if flag in EVERYDAY
            else HEADINGS[homes[0].path[0]]
            if homes[0].path
            else "the run",
        )
    yield Option(
        name="smoke",
        annotation=bool,
        help="Two steps of the recipe on synthetic images with a small network, to see that it "
        "runs.",
        default=False,
        group="the run",
    )


def _belongs(homes: Sequence[Any]) -> str:
    """Which variants of a component have the setting, if not all of them."""
    path, field = homes[0].path, homes[0].field
    with_selector = [s for s in settings(Recipe) if s.path == path and s.field == SELECTOR]
    kinds = {setting.kind for setting in with_selector}
    own = {home.kind for home in homes}
    if field == SELECTOR or not kinds or own >= kinds:
        return ""
    chosen = [word for s in with_selector if s.kind in own for word in words(s.kind)]
    return f" ({', '.join(chosen)} only)"


def _files(given: dict[str, Any]) -> dict[str, Any]:
    """What locates the run to resume."""
    return {name: given[name] for name in ("out", "name") if name in given}


def _saved_recipe(given: Recipe, name: str | None) -> Recipe:
    """The settings of the run to resume: they need not be typed again."""
    from normfree.train.saved import read_recipe

    directory = find_run_directory(given.name, given.place.out)
    saved = read_recipe(directory.read_config(), str(directory.config))
    if name is not None and saved.name != name:
        raise UserError(
            f"{directory.path} is a run of {saved.name}, not of {name}; leave {name} out"
        )
    return saved.override(out=directory.path)
