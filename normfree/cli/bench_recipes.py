"""``normfree bench train --recipe NAME``: the training step of a recipe, and of its variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from normfree.cli.bench_output import milliseconds, print_table, write_json
from normfree.cli.options import parse_options
from normfree.errors import UsageError
from normfree.recipes import get_recipe

if TYPE_CHECKING:
    from normfree.analysis.latency import Latency
    from normfree.cli.bench_train import Options
    from normfree.train.recipe import Recipe

#: Batches that take turns; reading them is not timed.
BATCHES = 2


def measure_recipes(options: Options) -> None:
    """Measure, print, and write the file."""
    base = _changed(get_recipe(options.recipe), options.set)
    recipes = {"recipe": base}
    recipes |= {variant: _changed(base, variant.split(",")) for variant in options.variants}

    from normfree.analysis.environment import environment

    rows = list(_measure(recipes, options.rounds))
    headings = ("settings", "batch", "median ms", "quartiles ms", "images/s", "cost")
    print_table(headings, map(_cells, rows))
    where = {**environment(), "recipe": options.recipe, "set": options.set}
    write_json(options.json, {"benchmark": "train", **where, "results": rows})


def _changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with some settings, typed as for ``normfree train``."""
    from normfree.cli.train import recipe_options

    words: list[str] = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"a setting is name=value, not {setting!r}")
        flag = name.replace("_", "-")
        switch = {"true": [f"--{flag}"], "false": [f"--no-{flag}"]}
        words += switch.get(value.lower(), [f"--{flag}", *value.split()])
    given = parse_options(recipe_options(recipe), words, prog="normfree train", description="")
    return recipe.override(**given)


def _measure(recipes: dict[str, Recipe], rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each recipe."""
    from normfree.analysis.latency import compare_latency

    steps = {name: _step(recipe) for name, recipe in recipes.items()}
    latencies: dict[str, Latency] = compare_latency(steps, rounds=rounds)
    for name, latency in latencies.items():
        size = recipes[name].batch.size
        yield {
            "settings": name,
            "batch_size": size,
            "images_per_second": size / latency.median,
            "cost": latency.median / latencies["recipe"].median,
            "seconds": asdict(latency),
        }


def _step(recipe: Recipe) -> Callable[[], None]:
    """A call that does one step of a recipe and waits for it."""
    from normfree.train.build import build_state, build_step
    from normfree.train.build_reader import build_reader
    from normfree.train.init import init_fields, new_model, read_init
    from normfree.train.resolve import resolve
    from normfree.train.sources import open_sources

    sources = open_sources(recipe.data.source, val_fraction=recipe.data.val_fraction)
    weights = read_init(recipe.model.init, recipe.model.name)
    resolved = resolve(recipe, *sources, inferred=init_fields(recipe.model.name, weights))
    model = new_model(resolved.model, resolved.classes, weights, seed=recipe.seed)[0]
    update = build_step(resolved, build_state(resolved, model))
    accumulate = recipe.batch.accumulate
    with closing(build_reader(resolved, sources).train(0)) as reading:
        batches = cycle([list(islice(reading, accumulate)) for _ in range(BATCHES)])

    def step() -> None:
        update(next(batches)).loss.item()

    return step


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["settings"],
        str(row["batch_size"]),
        *milliseconds(row["seconds"]),
        f"{row['images_per_second']:.0f}",
        f"{row['cost']:.2f}×",
    )
