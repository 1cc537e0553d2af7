"""How a network does on each class, as lines of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len, set_cell_size

from normfree.errors import printable

if TYPE_CHECKING:
    from normfree.inference.class_scores import ClassScores, Counts

_COLUMNS = 80
_LISTED = 20  # classes that are all shown
_WORST = 10  # classes or pairs that are shown of more
_NAME = 30  # columns of a name


def class_lines(
    names: Sequence[str],
    scores: ClassScores,
    more: Mapping[str, Sequence[float]] | None = None,
    *,
    everything: bool = False,
) -> Iterator[str]:
    """A line for each class; of many classes the worst by F1.

    Args:
        names: of the classes.
        scores: precision, recall, F1 and support of each.
        more: heading → a further score of each.
        everything: whether to show all of many classes.
    """
    chosen = list(range(len(names)))
    if len(names) > _LISTED and not everything:
        known = [label for label in chosen if not np.isnan(scores.f1[label])]
        chosen = sorted(known, key=lambda label: (scores.f1[label], label))[:_WORST]
        yield (
            f"the {len(chosen)} worst of {len(names)} classes by F1 (--all-classes shows every one)"
        )
    columns: dict[str, Sequence[float]] = {
        "precision": scores.precision.tolist(),
        "recall": scores.recall.tolist(),
        "F1": scores.f1.tolist(),
        **(more or {}),
    }
    width = min(_NAME, max([5, *(cell_len(printable(names[label])) for label in chosen)]))
    yield _cut("class", width) + "".join(f"{heading:>10}" for heading in (*columns, "images"))
    for label in chosen:
        shares = "".join(f"{_percent(values[label]):>10}" for values in columns.values())
        yield f"{_cut(names[label], width)}{shares}{int(scores.support[label]):>10}"


def confusion_lines(names: Sequence[str], counts: Counts) -> Iterator[str]:
    """The confusion matrix where it fits; else the pairs that were confused most."""
    numbers = [str(label) for label in range(len(names))]
    rows = [
        name if own == name else f"{own} {name}" for own, name in zip(numbers, names, strict=True)
    ]
    cell = max(map(len, (*numbers, *map(str, counts.values())))) + 2
    width = min(_NAME, _COLUMNS - len(names) * cell)
    if len(names) <= _LISTED and width >= 5:
        width = min(width, max(cell_len(printable(row)) for row in rows))
        yield "confusion matrix: a row for each class, a column for each answer"
        yield " " * width + "".join(f"{name:>{cell}}" for name in numbers)
        for label, row in enumerate(rows):
            cells = (f"{counts.get((label, other), 0):>{cell}}" for other in range(len(names)))
            yield _cut(row, width) + "".join(cells)
        return
    wrong = {pair: count for pair, count in counts.items() if pair[0] != pair[1]}
    most = sorted(wrong, key=lambda pair: (-wrong[pair], pair))[:_WORST]
    if most:
        yield "most confused (--json has the whole matrix)"
        yield f"{_cut('class', _NAME)}  {_cut('answer', _NAME)}{'images':>10}"
    for pair in most:
        own, given = (_cut(names[index], _NAME) for index in pair)
        yield f"{own}  {given}{wrong[pair]:>10}"


def _cut(name: str, width: int) -> str:
    """A name in so many columns."""
    text = printable(name)
    return set_cell_size(text if cell_len(text) <= width else text[: width - 1] + "…", width)


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1%}"
