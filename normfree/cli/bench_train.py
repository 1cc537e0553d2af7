"""``normfree bench train``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from normfree.cli.options import parse, parse_options
from normfree.cli.threads import torch_threads
from normfree.errors import UsageError
from normfree.recipes import get_recipe
from normfree.schema import record

if TYPE_CHECKING:
    from normfree.analysis.latency import Latency
    from normfree.train.recipe import Recipe

#: Batches that take turns; reading them is not timed.
BATCHES = 2


@record
class Options:
    """Time of a training step on this machine: a recipe, and the same with other settings.

    A step is all from the batch in memory to the updated averages: augmentation on the device,
    forward and backward pass, clipping, update. Reading images is left out, but some are needed:
    --set data=folder:DIR, where the recipe has none. All take turns, so what slows the machine
    slows all of them.

    For the cost of sharpness-aware minimization: --variants sam_rho=0.05
    sam_rho=0.05,sam_fraction=0.2
    """

    recipe: str = "digits"
    """What to train."""
    set: tuple[str, ...] = ()
    """Settings of the recipe for all, as `name=value`: `model=nfnet_nano batch_size=64`."""
    variants: tuple[str, ...] = ()
    """Other settings to compare with, each `name=value` or several joined by commas."""
    threads: int | None = None
    """Processor cores to use. None: all."""
    rounds: int = 20
    """Times that each is timed."""
    json: Path | None = None
    """Write the numbers, and where they were measured, to this file."""


def run(words: Sequence[str]) -> None:
    """Measure: ``normfree bench train [--recipe NAME] [--variants …] [--json FILE]``."""
    options = parse(Options, words, prog="normfree bench train")
    if options.rounds < 2:
        raise UsageError(f"--rounds must be at least 2, not {options.rounds}")
    base = _changed(get_recipe(options.recipe), options.set)
    recipes = {"recipe": base}
    recipes |= {variant: _changed(base, variant.split(",")) for variant in options.variants}

    from normfree.analysis.environment import environment

    with torch_threads(options.threads):
        rows = list(_measure(recipes, options.rounds))
        where = environment()
    Console().print(_table(rows))
    if options.json is not None:
        found = {"benchmark": "train", **where, "recipe": options.recipe, "set": options.set}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found | {"results": rows}, indent=2) + "\n")


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
    from normfree.train.build import build_reader, build_state, build_step
    from normfree.train.init import init_fields, new_model, read_init
    from normfree.train.resolve import resolve
    from normfree.train.sources import open_sources

    sources, weights = open_sources(recipe.data.source), read_init(recipe.model.init)
    resolved = resolve(recipe, *sources, inferred=init_fields(recipe.model.name, weights))
    model = new_model(resolved.model, resolved.classes, weights, seed=recipe.seed)[0]
    update = build_step(resolved, build_state(resolved, model))
    accumulate = recipe.batch.accumulate
    with closing(build_reader(resolved, sources).train(0)) as reading:
        batches = cycle([list(islice(reading, accumulate)) for _ in range(BATCHES)])

    def step() -> None:
        update(next(batches)).loss.item()

    return step


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("settings", "batch", "median ms", "quartiles ms", "images/s", "cost"):
        table.add_column(heading, justify="left" if heading == "settings" else "right")
    for row in rows:
        low, median, high = (1000 * row["seconds"][key] for key in ("low", "median", "high"))
        table.add_row(
            row["settings"],
            str(row["batch_size"]),
            f"{median:.1f}",
            f"{low:.1f}–{high:.1f}",
            f"{row['images_per_second']:.0f}",
            f"{row['cost']:.2f}×",
        )
    return table
