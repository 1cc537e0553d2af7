"""Short runs of one recipe under several learning rates and λ, chosen between on validation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from normfree.errors import UserError
from normfree.schema import to_plain
from normfree.train.components import Place
from normfree.train.finite import NonFiniteError
from normfree.train.fit import fit
from normfree.train.recipe import Recipe


class Point(NamedTuple):
    """One run of a sweep.

    Attributes:
        lr: learning rate, as the recipe has it.
        clipping: λ; None takes the recipe's.
    """

    lr: float
    clipping: float | None = None

    @property
    def name(self) -> str:
        """Of its directory.

        >>> Point(0.1, 0.01).name, Point(0.1).name
        ('lr_0.1_clipping_0.01', 'lr_0.1')
        """
        end = "" if self.clipping is None else f"_clipping_{self.clipping:g}"
        return f"lr_{self.lr:g}{end}"

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe with its settings."""
        return recipe.override(
            lr=self.lr, **({} if self.clipping is None else {"clipping": self.clipping})
        )


class Outcome(NamedTuple):
    """What a run came to.

    Attributes:
        point: its settings.
        accuracy: the best on validation; None where it diverged.
        said: why it has none.
    """

    point: Point
    accuracy: float | None
    said: str = ""


def grid(rates: Sequence[float], clippings: Sequence[float]) -> list[Point]:
    """Every pair; the recipe's own λ where there is none.

    >>> len(grid([0.1, 0.2], [0.01, 0.04, 0.16])), grid([0.1], [])
    (6, [Point(lr=0.1, clipping=None)])
    """
    return [Point(lr, clipping) for lr, clipping in product(rates, clippings or (None,))]


def sweep(
    recipe: Recipe,
    points: Sequence[Point],
    out: Path,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Outcome]:
    """Train the recipe at each point, in ``out``; what is there already is not done again.

    A line of ``sweep.jsonl`` follows each run. A run that was interrupted goes on where it stopped.
    Test images, where there are any, play no part in what is compared.

    Args:
        recipe: what is common to all runs.
        points: what differs.
        out: a directory for all of them.
        say: is told which run begins.

    Raises:
        UserError: there is a sweep of another recipe in ``out``, or a run fails otherwise than by
            diverging.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines, print_ = out / "sweep.jsonl", _fingerprint(recipe)
    done = read_sweep(lines, print_)
    for number, point in enumerate(points, start=1):
        if point in done:
            yield done[point]
            continue
        say(f"run {number} of {len(points)}: {point.name}")
        outcome = _trained(point, recipe, out / point.name)
        with lines.open("a", encoding="utf-8") as file:
            fields = {**point._asdict(), "accuracy": outcome.accuracy, "said": outcome.said}
            file.write(json.dumps({"recipe": print_, **fields}) + "\n")
        yield outcome


def read_sweep(path: Path, print_: str) -> dict[Point, Outcome]:
    """The runs that are done.

    Raises:
        UserError: they are of another recipe, or a line is damaged.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = {}
    for number, line in enumerate(text.split("\n")[:-1], start=1):  # half a line may be at the end
        try:
            fields = json.loads(line)
            point = Point(fields["lr"], fields["clipping"])
            outcome = Outcome(point, fields["accuracy"], fields["said"])
            same = fields["recipe"] == print_
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f"line {number} of {path} is damaged; remove the line") from None
        if not same:
            raise UserError(f"{path} is a sweep of other settings; choose another --out")
        found[point] = outcome
    return found


def _trained(point: Point, recipe: Recipe, directory: Path) -> Outcome:
    """One run, from where it stopped if it did."""
    resumes = (directory / "config.yaml").exists()
    run = point.of(recipe).override(out=directory, resume=resumes)
    try:
        return Outcome(point, fit(run).best)
    except NonFiniteError as error:
        return Outcome(point, None, str(error))


def _fingerprint(recipe: Recipe) -> str:
    """Equal for equal settings, wherever the files go."""
    plain = json.dumps(to_plain(replace(recipe, place=Place())), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
