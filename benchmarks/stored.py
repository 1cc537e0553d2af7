"""The ratios that a benchmark's result states, and the newest that are stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast ours is as what it is compared with.

    Attributes:
        median: of the medians.
        low: at worst, by quartiles.
        high: at best.
        source: the file, and the processor it was measured on.
    """

    median: float
    low: float
    high: float
    source: str = ""

    def worse_than(self, other: Ratio) -> bool:
        """Whether it is worse by more than the spread of both."""
        return self.high < other.low


def read_ratios(found: Found, source: str = "") -> dict[str, Ratio]:
    """What a result states, by a name that says what was measured.

    Args:
        found: a result as ``normfree bench`` writes it, or several as ``runs`` with what they have
            in common around them.
        source: where it is from.
    """
    ratios: dict[str, Ratio] = {}
    for run in found.get("runs", [{}]):
        whole = {**found, **run}
        reader = _READERS.get(whole.get("benchmark", ""))
        for name, values in reader(whole) if reader else ():
            ratios[name] = Ratio(*values, f"{source}, {whole.get('processor', '')}")
    return ratios


def newest_ratios(directory: Path = RESULTS) -> dict[str, Ratio]:
    """The newest stored ratio of each name; names of files begin with the date."""
    ratios: dict[str, Ratio] = {}
    for file in sorted(directory.glob("*.json")):
        ratios |= read_ratios(json.loads(file.read_text()), file.name)
    return ratios


def _train(found: Found) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Ours in its fastest layout, against timm at its fastest."""
    options = found["options"]
    setting = f"{options['size']} px, batch {options['batch_size']}, {options['precision']}"
    for kind, rows in (("timm", found["peer_ratios"]), ("BN twin", found["twin_ratios"])):
        best: dict[tuple[str, str, str], Found] = {}
        for row in rows:
            key = row["network"], row["our_form"], row["form"]
            kept = best.get(key, row)
            best[key] = max((kept, row), key=lambda one: one["phases"]["total"]["median"])
        for (network, ours, theirs), row in best.items():
            for phase, ratio in row["phases"].items():
                name = f"train {network}, {setting}: {phase}, {ours} against {kind} {theirs}"
                yield name, (ratio["median"], ratio["low"], ratio["high"])


def _optim(found: Found) -> Iterator[tuple[str, tuple[float, float, float]]]:
    rows = {row["optimizer"]: row["seconds"] for row in found["results"]}
    cut = f" cut to {found['largest_axis']}" if found["largest_axis"] else ""
    where = f"optim {found['model']}{cut}, {found['threads']} threads"
    base = rows.get("torch SGD foreach + norms")
    for name, seconds in rows.items():
        if base is not None and name.startswith("AGCSGD"):
            yield f"{where}: {name} against torch SGD + norms", _faster(base, seconds)


def _infer(found: Found) -> Iterator[tuple[str, tuple[float, float, float]]]:
    trained = {
        (row["model"], row["size"], row["batch_size"]): row["seconds"]
        for row in found["results"]
        if row["form"] == "trained"
    }
    for row in found["results"]:
        key = row["model"], row["size"], row["batch_size"]
        if row["form"] != "trained" and key in trained:
            name = f"infer {key[0]}, {key[1]} px, batch {key[2]}: {row['form']} against trained"
            yield name, _faster(trained[key], row["seconds"])


def _faster(theirs: Found, ours: Found) -> tuple[float, float, float]:
    return (
        theirs["median"] / ours["median"],
        theirs["low"] / ours["high"],
        theirs["high"] / ours["low"],
    )


_READERS = {"train_networks": _train, "optim": _optim, "infer": _infer}


def table(today: Mapping[str, Ratio], stored: Mapping[str, Ratio]) -> Iterable[tuple[str, ...]]:
    """Today's ratios beside the stored ones, as cells: the last says what is worse."""
    for name, ratio in today.items():
        old = stored.get(name)
        yield (
            name,
            _cell(ratio),
            _cell(old) if old else "",
            "worse" if old and ratio.worse_than(old) else "",
            old.source if old else "not stored",
        )


def _cell(ratio: Ratio) -> str:
    return f"{ratio.median:.2f}× ({ratio.low:.2f}–{ratio.high:.2f})"
