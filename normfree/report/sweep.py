"""The page of a sweep: accuracy over learning rate and λ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from normfree.report.page import html_page
from normfree.report.svg import Axes, Series, heat_map, line_chart

#: Learning rate, λ (None: the recipe's), best accuracy on validation (None: diverged).
Row = tuple[float, float | None, float | None]


def sweep_page(name: str, rows: Sequence[Row]) -> str:
    """A line for each λ over the learning rate, and a picture of all.

    >>> "Accuracy" in sweep_page("digits", [(0.1, 0.01, 0.5), (0.2, 0.01, None)])
    True
    """
    rates, thresholds = sorted({r[0] for r in rows}), list(dict.fromkeys(r[1] for r in rows))
    found = {(rate, threshold): accuracy for rate, threshold, accuracy in rows}
    series = [
        Series(
            name="the recipe's λ" if threshold is None else f"λ = {threshold:g}",
            x=rates,
            y=[_number(found.get((rate, threshold))) for rate in rates],
        )
        for threshold in thresholds
    ]
    axes = Axes("Accuracy", "learning rate", "best accuracy on validation (share)")
    charts = [line_chart(axes, series)]
    if len(thresholds) > 1:
        values = np.array([[_number(found.get((r, t))) for r in rates] for t in thresholds])
        axes = Axes("Accuracy, all runs", "learning rate", "λ")
        charts.append(heat_map(axes, values, [f"{t:g}" for t in thresholds if t], rates, "share"))
    said = "<p class=soft>Chosen on validation images; runs that diverged have no point.</p>"
    body = f'{said}<div class="plots">{"".join(charts)}</div>'
    return html_page(f"Sweep of {name}", "", [("Learning rate and λ", body)])


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
