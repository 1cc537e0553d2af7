"""What a report says of classes: confusion, precision and recall, and images it erred on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from normfree.inference.class_scores import ClassScores, scores_of_counts
from normfree.report.evaluation import EvaluationFile, Example
from normfree.report.svg import Axes, heat_map

_LISTED = 200  # classes, pairs
_DRAWN = 1000  # classes in the confusion matrix


class ClassRow(NamedTuple):
    """How a class fared, see :class:`normfree.inference.class_scores.ClassScores`."""

    name: str
    precision: float
    recall: float
    f1: float
    images: int


def class_rows(found: EvaluationFile) -> list[ClassRow]:
    """The scores of each class that has images or answers, the worst recall first."""
    columns = (found.classes, *(column.tolist() for column in _scores(found)))
    rows = [ClassRow(*row) for row in zip(*columns, strict=True) if not np.isnan(row[3])]
    return sorted(rows, key=lambda row: (np.isnan(row.recall), row.recall))


def _scores(found: EvaluationFile) -> ClassScores:
    counts = {(label, answer): count for label, answer, count in found.confusion}
    return scores_of_counts(counts, len(found.classes))


def class_table(found: EvaluationFile) -> str:
    """A row for each class."""
    rows = class_rows(found)
    cells = "".join(
        f"<tr><td>{escape(row.name)}</td><td class=n>{row.images}</td>"
        f"<td class=n>{_percent(row.precision)}</td><td class=n>{_percent(row.recall)}</td>"
        f"<td class=n>{_percent(row.f1)}</td></tr>"
        for row in rows[:_LISTED]
    )
    more = f'<p class="soft">{len(rows) - _LISTED} classes with a better recall are not listed.</p>'
    balanced = _percent(_scores(found).balanced_accuracy)
    return (
        f"<p>Balanced accuracy, the mean recall of the classes: <b>{balanced}</b></p>"
        '<div class="wide"><table><tr><th>class</th><th class=n>images</th>'
        "<th class=n>precision</th><th class=n>recall</th><th class=n>F1</th></tr>"
        f"{cells}</table></div>{more * (len(rows) > _LISTED)}"
    )


def confusion(found: EvaluationFile) -> str:
    """The share of each class's images by answer, and the pairs that were confused most."""
    parts = []
    k = len(found.classes)
    if k <= _DRAWN:
        matrix = np.zeros((k, k))
        for label, answer, count in found.confusion:
            matrix[label, answer] = count
        with np.errstate(invalid="ignore"):
            shares = matrix / matrix.sum(1, keepdims=True)
        names = [name if len(name) <= 12 else name[:11] + "…" for name in found.classes]
        axes = Axes("Confusion matrix", "answer (number of the class)", "class")
        parts.append(heat_map(axes, shares, names, list(range(k)), "share of the class"))
    wrong = sorted((c for c in found.confusion if c[0] != c[1]), key=lambda c: -c[2])[:20]
    rows = "".join(
        f"<tr><td>{escape(found.classes[label])}</td><td>{escape(found.classes[answer])}</td>"
        f"<td class=n>{count}</td></tr>"
        for label, answer, count in wrong
    )
    if rows:
        parts.append(
            "<figure><figcaption>Most confused</figcaption><div class=wide><table><tr><th>class"
            f"</th><th>answer</th><th class=n>images</th></tr>{rows}</table></div></figure>"
        )
    return f'<div class="plots">{"".join(parts)}</div>'


def images(found: EvaluationFile, shown: Sequence[Example]) -> str:
    """Small images, each with its class and the answer."""
    return f'<ul class="images">{"".join(_items(found, shown))}</ul>'


def _items(found: EvaluationFile, shown: Sequence[Example]) -> Iterator[str]:
    for example in shown:
        own = ", ".join(found.classes[c] for c in example.classes) or "no class"
        answer = found.classes[example.answer]
        mark = "yes" if example.answer in example.classes else "no"
        yield (
            f'<li><img src="data:image/jpeg;base64,{example.jpeg}" alt="{escape(own)}">'
            f'<br>{escape(own)}<br><span class="{mark}">{escape(answer)} '
            f"{example.probability:.0%}</span>, loss {example.loss:.2f}</li>"
        )


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1%}"
