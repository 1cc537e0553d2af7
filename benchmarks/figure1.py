"""The paper's figure 1 with latencies of this machine.

    python benchmarks/peers.py train --models … --peers --twins --others … --json FILE
    python benchmarks/figure1.py FILE docs/figure1.svg

Latency is measured: the median of the whole training step of each network at its own training size,
in its fastest form. Accuracy is not: it is what the paper prints (table 3; table 6 for the twins).
Networks for which the paper prints none are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FormatStrFormatter

from normfree.models import PAPER_TOP1

#: Top-1 accuracy in percent, from table 3; networks of timm.
TABLE_3 = {
    "resnet50": 78.6,
    "efficientnet_b0": 77.1,
    "efficientnet_b3": 81.6,
    "efficientnet_b4": 82.9,
    "efficientnet_b5": 83.7,
    "efficientnet_b6": 84.0,
    "efficientnet_b7": 84.7,
}
#: Series → marker and line, color, place of the names in points.
_SERIES = {
    "NFNet": ("o-", "#0b5fa5", (6, -10)),
    "NFNet with batch normalization": ("s-", "#d9822b", (6, -10)),
    "NFNet in timm": ("^-", "#6b7280", (-40, 6)),
    "ResNet, EfficientNet in timm": ("D", "#8f1d4f", (6, -3)),
}


class Point(NamedTuple):
    """A network in the figure; seconds are of a step, with quartiles."""

    series: str
    name: str
    median: float
    low: float
    high: float
    accuracy: float


def points(rows: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
    """The fastest form of each network that has an accuracy in the paper."""
    fastest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = row["by"], row["network"]
        if key not in fastest or _median(row) < _median(fastest[key]):
            fastest[key] = row
    for (by, name), row in fastest.items():
        series, accuracy = _place(by, name)
        if accuracy is not None:
            total = row["phases"]["total"]
            yield Point(series, name, total["median"], total["low"], total["high"], accuracy)


def _median(row: Mapping[str, Any]) -> float:
    return float(row["phases"]["total"]["median"])


def _place(by: str, name: str) -> tuple[str, float | None]:
    nfnet, twin, in_timm, others = _SERIES
    ours = name.removeprefix("dm_") if by == "timm" else name
    printed = PAPER_TOP1.get(ours, "").partition(" ")[0]
    if by == "normfree":
        return (twin if name.startswith("bn_") else nfnet), float(printed) if printed else None
    if printed:
        return in_timm, float(printed)
    return others, TABLE_3.get(name)


def draw(found: Mapping[str, Any], file: Path) -> None:
    """Draw the figure."""
    mpl.rcParams["svg.hashsalt"] = "normfree"  # the same bytes each time
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    drawn = list(points(found["results"]))
    for series, (line, color, beside) in _SERIES.items():
        own = sorted((one for one in drawn if one.series == series), key=lambda one: one.accuracy)
        if not own:
            continue
        spread = [[one.median - one.low for one in own], [one.high - one.median for one in own]]
        axes.errorbar(
            [one.median for one in own],
            [one.accuracy for one in own],
            xerr=spread,
            fmt=line,
            elinewidth=0.8,
            capsize=2,
            color=color,
            label=series,
        )
        for one in own:
            at = (one.median, one.accuracy)
            axes.annotate(one.name, at, beside, textcoords="offset points", fontsize=6, color=color)
    batch = found["options"]["batch_size"]
    axes.set_xscale("log")
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(FormatStrFormatter("%g"))
    where = f"{found['accelerator'] or found['processor']}, {found['threads']} threads"
    axes.set_xlabel(f"training step, batch {batch}, seconds (measured: {where})")
    axes.set_ylabel("ImageNet top-1, % (the paper's)")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Read the result and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("result", type=Path, help="a file of normfree bench train --models")
    parser.add_argument("figure", type=Path, help="an .svg or .png to write")
    options = parser.parse_args()
    draw(json.loads(options.result.read_text()), options.figure)


if __name__ == "__main__":
    main()
