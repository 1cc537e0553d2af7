"""Charts as SVG, small enough for a page: axes, lines and heat maps.

Colors, lines and text are classes of the page's style sheet, so that one chart fits light and dark.
Nothing is drawn that is not finite.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

_WIDTH, _HEIGHT = 600, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 14, 12, 52
_POINTS = 600  # of a line: a chart is narrower
_LARGEST = 1e30


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line.

    Attributes:
        name: for the legend.
        x: from left to right.
        y: as many.
        dashed: whether it is what others are compared with.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False

    def points(self, *, positive: bool) -> list[tuple[float, float]]:
        """What can be drawn of it, thinned out.

        Args:
            positive: whether the vertical axis is logarithmic.
        """
        found = [
            (float(x), float(y))
            for x, y in zip(self.x, self.y, strict=True)
            if _drawable(x) and _drawable(y) and (y > 0 or not positive)
        ]
        stride = -(-len(found) // _POINTS) or 1
        return found[::stride] + (found[-1:] if found and (len(found) - 1) % stride else [])


class Axes(NamedTuple):
    """What a chart says of itself.

    Attributes:
        title: what is shown.
        x: quantity and unit of the horizontal axis.
        y: of the vertical one.
        log: whether the vertical axis is logarithmic.
    """

    title: str
    x: str
    y: str
    log: bool = False


def line_chart(axes: Axes, series: Sequence[Series]) -> str:
    """Lines over a common axis; says so where there is nothing to draw.

    >>> axes, line = Axes("loss", "step", "loss (nats)"), Series(name="<a>", x=[1, 2], y=[3, 4])
    >>> chart = line_chart(axes, [line])
    >>> "&lt;a&gt;" in chart, "<polyline" in chart
    (True, True)
    """
    drawn = [(one, one.points(positive=axes.log)) for one in series]
    drawn = [(one, points) for one, points in drawn if points]
    if not drawn:
        return _figure(axes, '<p class="none">Nothing was measured.</p>', "")
    xs, ys = zip(*(point for _, points in drawn for point in points), strict=True)
    x_ticks = ticks(min(xs), max(xs))
    y_ticks = log_ticks(min(ys), max(ys)) if axes.log else ticks(min(ys), max(ys))
    to_x = _scale(x_ticks, _LEFT, _WIDTH - _RIGHT)
    to_y = _scale(y_ticks, _HEIGHT - _BOTTOM, _TOP, log=axes.log)
    parts = [
        _frame(
            axes, [(to_x(v), _label(v)) for v in x_ticks], [(to_y(v), _label(v)) for v in y_ticks]
        )
    ]
    for place, (one, points) in enumerate(drawn):
        style = f"line c{place % 8}" + " dashed" * one.dashed
        path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in points)
        name = f"<title>{escape(one.name)}</title>"
        parts.append(f'<polyline class="{style}" points="{path}">{name}</polyline>')
        if len(points) <= 40 and not one.dashed:
            parts += [
                f'<circle class="dot c{place % 8}" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3">'
                f"<title>{escape(one.name)}: {_label(x)}, {y:.4g}</title></circle>"
                for x, y in points
            ]
    return _figure(axes, _svg(axes, "".join(parts), _HEIGHT), _legend([one for one, _ in drawn]))


def heat_map(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[float],
    unit: str = "share",
) -> str:
    """Numbers from 0 to 1 as colors; NaN is left transparent.

    Args:
        axes: what is shown.
        values: a number for each row and column.
        rows: name of the part that each row belongs to; each part is named once.
        columns: position of each column, such as a step.
        unit: of the values, for the scale of colors.
    """
    if not values.size:
        return _figure(axes, '<p class="none">Nothing was measured.</p>', "")
    height = int(min(max(220, 9 * len(rows)), 620))
    top, bottom = _TOP, height - _BOTTOM
    x_ticks = [float(column) for column in columns[:: -(-len(columns) // 5)]]
    left = _LEFT + 26
    span = _WIDTH - _RIGHT - left

    def to_x(place: int) -> float:
        return left + span * (place + 0.5) / len(columns)

    at = [(to_x(list(columns).index(v)), _label(v)) for v in dict.fromkeys(x_ticks)]
    names: list[tuple[float, str]] = []
    place = 0
    for name, group in groupby(rows):
        count = len(list(group))
        middle = top + (bottom - top) * (place + count / 2) / len(rows)
        if not names or middle - names[-1][0] >= 13:
            names.append((middle, name))
        place += count
    image = (
        f'<image x="{left}" y="{top}" width="{span}" height="{bottom - top}" '
        f'preserveAspectRatio="none" class="pixels" href="{_png(colored(values))}"/>'
    )
    inside = image + _frame(axes, at, names, left=left, height=height, grid=False)
    return _figure(axes, _svg(axes, inside, height), _color_scale(unit))


def colored(values: Float[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "rows columns 4"]:
    """Colors of numbers from 0 to 1, from dark blue by green to yellow; nothing where it is NaN.

    >>> colored(np.array([[0.0, 1.0, np.nan]]))[0, :, 3].tolist()
    [255, 255, 0]
    """
    stops = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
    known = np.nan_to_num(np.clip(values, 0, 1))
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(known, at, stops[:, channel]) for channel in range(3)]
    alpha = np.where(np.isnan(values), 0, 255)
    return np.stack([*channels, alpha], axis=-1).astype(np.uint8)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that enclose an interval; from zero where there is nothing but zeros.

    >>> ticks(0.03, 0.97), ticks(5, 5)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [4.0, 4.5, 5.0, 5.5, 6.0])
    >>> ticks(0, 0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(low) * 0.2
        low, high = (low - pad, high + pad) if pad else (0.0, 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{step * n:.12g}") for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose an interval, at most eight.

    >>> log_ticks(0.02, 30)
    [0.01, 0.1, 1.0, 10.0, 100.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    step = -(-(last - first) // 7)
    return [float(f"1e{power}") for power in range(first, last + step, step)]


def _drawable(value: object) -> bool:
    return isinstance(value, int | float | np.number) and abs(float(value)) <= _LARGEST


def _scale(
    at: Sequence[float], start: float, stop: float, *, log: bool = False
) -> Callable[[float], float]:
    """From values to places."""
    low, high = (math.log10(v) if log else v for v in (at[0], at[-1]))

    def place(value: float) -> float:
        found = math.log10(value) if log else value
        return start + (stop - start) * (found - low) / (high - low)

    return place


def _label(value: float) -> str:
    """A number on an axis.

    >>> _label(20000), _label(0.25), _label(1e-7), _label(1500000)
    ('20k', '0.25', '1e-07', '1.5M')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1000 * size and (abs(value) >= 1e4 or size > 1e3):
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _frame(
    axes: Axes,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    *,
    left: int = _LEFT,
    height: int = _HEIGHT,
    grid: bool = True,
) -> str:
    """Grid, numbers and names of the axes."""
    bottom, right, shown = height - _BOTTOM, _WIDTH - _RIGHT, []
    for y, text in y_ticks:
        if grid:
            shown.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        shown.append(f'<text class="end" x="{left - 6}" y="{y + 4:.1f}">{escape(text)}</text>')
    for place, (x, text) in enumerate(x_ticks):
        anchor = "end" if place == len(x_ticks) - 1 and x > right - 20 else "mid"
        shown.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
        shown.append(f'<text class="{anchor}" x="{x:.1f}" y="{bottom + 20}">{escape(text)}</text>')
    shown.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle, center = (_TOP + bottom) / 2, (left + right) / 2
    shown.append(
        f'<text class="mid name" x="{center:.0f}" y="{height - 8}">{escape(axes.x)}</text>'
    )
    turned = f'transform="rotate(-90 15 {middle:.0f})"'
    shown.append(f'<text class="mid name" x="15" y="{middle:.0f}" {turned}>{escape(axes.y)}</text>')
    return "".join(shown)


def _svg(axes: Axes, inside: str, height: int) -> str:
    about = escape(f"{axes.title}: {axes.y} over {axes.x}")
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{about}">{inside}</svg>'


def _figure(axes: Axes, drawing: str, legend: str) -> str:
    return f"<figure><figcaption>{escape(axes.title)}</figcaption>{drawing}{legend}</figure>"


def _legend(series: Sequence[Series]) -> str:
    keys = "".join(
        f'<li><i class="key c{place % 8}{" dashed" * one.dashed}"></i>{escape(one.name)}</li>'
        for place, one in enumerate(series)
    )
    return f'<ul class="legend">{keys}</ul>'


def _color_scale(unit: str) -> str:
    shades = _png(colored(np.linspace(0, 1, 64)[None]))
    return (
        f'<p class="scale">0 <img src="{shades}" alt="from dark to light"> 1 ({escape(unit)})</p>'
    )


def _png(pixels: UInt8[np.ndarray, "h w 4"]) -> str:
    """An image inside the page."""
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
