"""``normfree sweep``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from normfree.cli.arguments import Option
from normfree.cli.options import parse_options
from normfree.cli.output import say
from normfree.cli.train import recipe_options
from normfree.errors import UsageError, UserError
from normfree.recipes import DEFAULT, get_recipe

if TYPE_CHECKING:
    from normfree.train.recipe import Recipe
    from normfree.train.sweep import Outcome

_OWN = ("lr", "clipping", "out", "resume", "smoke", "name")


def run(words: Sequence[str]) -> None:
    """Sweep: ``normfree sweep [RECIPE] --lr X… [--clipping X…]``."""
    named = bool(words) and not words[0].startswith("-")
    name, words = (words[0], words[1:]) if named else (DEFAULT, words)
    try:
        recipe = get_recipe(name)
    except UserError as error:
        raise UsageError(str(error)) from error
    given = parse_options(
        sweep_options(recipe),
        words,
        prog=f"normfree sweep {name}",
        description="Short runs under several learning rates and λ, chosen between on validation; "
        "the same command goes on where it stopped.",
    )
    rates: tuple[float, ...] = given.pop("lr", None) or ()
    clippings: tuple[float, ...] = given.pop("clipping", None) or ()
    if not rates:
        raise UsageError("name the learning rates: --lr 0.1 0.2 0.4 (see normfree sweep --help)")
    out = given.pop("out", Path("runs") / f"{name}-sweep")
    try:
        recipe = recipe.override(**given)
    except UserError as error:
        raise UsageError(f"{error} (see normfree sweep --help)") from None
    from normfree.train.sweep import grid, sweep

    outcomes: list[Outcome] = []
    for outcome in sweep(recipe, grid(rates, clippings), out, say):
        outcomes.append(outcome)
        _write(name, outcomes, out)
    Console().print(_table(outcomes))
    best = max((o for o in outcomes if o.accuracy is not None), key=_accuracy, default=None)
    if best is not None:
        clipping = "" if best.point.clipping is None else f" --clipping {best.point.clipping:g}"
        say(f"best on validation: --lr {best.point.lr:g}{clipping}")
    say(f"plot: {out / 'sweep.html'}")


def sweep_options(recipe: Recipe) -> Iterator[Option]:
    """Those of training, but for what a sweep sets itself."""
    many = tuple[float, ...]
    yield Option(
        name="lr", annotation=many, help="Learning rates to try, in the recipe's unit.", default=()
    )
    yield Option(name="clipping", annotation=many, help="λ to try. None: the recipe's.", default=())
    yield Option(
        name="out",
        annotation=Path,
        help="Directory of all runs. None: runs/RECIPE-sweep.",
        default=None,
    )
    yield from (option for option in recipe_options(recipe) if option.name not in _OWN)


def _write(name: str, outcomes: Sequence[Outcome], out: Path) -> None:
    from normfree.atomic import write_atomic
    from normfree.report.sweep import sweep_page

    rows = [(o.point.lr, o.point.clipping, o.accuracy) for o in outcomes]
    write_atomic(out / "sweep.html", sweep_page(name, rows).encode())


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=None)
    for heading in ("learning rate", "λ", "best on validation"):
        table.add_column(heading, justify="right")
    for lr, clipping, accuracy in ((*o.point, o.accuracy) for o in outcomes):
        shown = "diverged" if accuracy is None else f"{accuracy:.2%}"
        table.add_row(f"{lr:g}", "recipe's" if clipping is None else f"{clipping:g}", shown)
    return table


def _accuracy(outcome: Outcome) -> float:
    return outcome.accuracy or 0.0
