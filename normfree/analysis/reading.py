"""A reading of telemetry: one row of numbers for each parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

#: The shares of units whose ratio is at most that of a column.
QUANTILES = {"ratio_p10": 0.1, "ratio_p50": 0.5, "ratio_p90": 0.9, "ratio_max": 1.0}

#: What a row says: the share of units clipped, quantiles over units of ‖G‖/‖W‖ (before clipping),
#: and the norms of the gradient, the weights and the update.
COLUMNS = ("clipped", *QUANTILES, "gradient", "weight", "update")


class Part(NamedTuple):
    """What one process knows.

    Attributes:
        steps: how many were counted.
        clipped: parameter → its clipped units, over all steps.
        units: parameter → its units.
        norms: parameter → norms of its units in weights and gradient, norm of its update, and
            whether one unit is split over several processes.
    """

    steps: int
    clipped: Mapping[str, int]
    units: Mapping[str, int]
    norms: Mapping[str, tuple[Any, ...]]


class Reading(NamedTuple):
    """One row for each parameter.

    Attributes:
        layers: names of the parameters.
        values: a row for each, as :data:`COLUMNS` say; NaN where there is nothing to say.
        steps: steps over which clipped units were counted.

    >>> reading = Reading(("w",), np.arange(8, dtype=np.float32)[None], steps=1)
    >>> reading.of("w")["update"]
    7.0
    """

    layers: tuple[str, ...]
    values: Float32[np.ndarray, "layers columns"]
    steps: int

    def of(self, layer: str) -> dict[str, float]:
        """The row of a parameter, by column."""
        row = self.values[self.layers.index(layer)].tolist()
        return dict(zip(COLUMNS, row, strict=True))


def merged(parts: Sequence[Part], layers: Iterable[str], eps: float) -> Reading:
    """One reading of what several processes know, each of other rows.

    Args:
        parts: of the processes.
        layers: the parameters to list.
        eps: lower bound on the norm of a unit.
    """
    names = tuple(layers)
    rows = [
        [_share(parts, name), *_norms([p.norms[name] for p in parts if name in p.norms], eps)]
        for name in names
    ]
    values = np.array(rows, np.float32).reshape(len(names), len(COLUMNS))
    return Reading(names, values, max(part.steps for part in parts))


def _share(parts: Sequence[Part], name: str) -> float:
    """The share of a parameter's units that were clipped."""
    could = sum(part.units[name] * part.steps for part in parts if name in part.units)
    return sum(part.clipped.get(name, 0) for part in parts) / could if could else float("nan")


def _norms(found: Sequence[tuple[Any, ...]], eps: float) -> list[float]:
    """Quantiles of the ratio, and three norms."""
    if not found:
        return [float("nan")] * (len(COLUMNS) - 1)
    weight, gradient, *_ = found[0]
    if len(found) > 1:
        weight, gradient = (np.concatenate([one[place] for one in found]) for place in (0, 1))
    whole = [math.sqrt(np.square(x, dtype=np.float64).sum()) for x in (gradient, weight)]
    update = math.hypot(*(one[2] for one in found))
    if any(one[3] for one in found):
        gradient, weight = np.array(whole[:1]), np.array(whole[1:])
    ratio = np.sort(gradient / np.maximum(weight, eps))
    places = [min(int(q * len(ratio)), len(ratio) - 1) for q in QUANTILES.values()]
    return [*ratio[places].tolist(), *whole, update]


def stage_of(layer: str) -> str:
    """The part of a network that a parameter belongs to: its name up to the first number.

    >>> stage_of("stages.0.1.conv0.weight"), stage_of("layer1.0.bn1.weight"), stage_of("fc.bias")
    ('stages.0', 'layer1', 'fc')
    >>> stage_of("stem.convs.2.weight")
    'stem'
    """
    head, *rest = layer.split(".")
    if head in ("stages", "blocks", "layers", "features") and rest and rest[0].isdigit():
        return f"{head}.{rest[0]}"
    return head
