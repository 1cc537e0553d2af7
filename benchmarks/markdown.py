"""Tables for the documentation: ``python benchmarks/markdown.py FILE`` prints them.

FILE is a result of ``normfree bench train --models``. Every number is from it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def tables(run: Mapping[str, Any]) -> Iterator[str]:
    """Lines: the rows of a result, its ratios, and the peaks."""
    yield from _line(
        "network", "px", "total ms (quartiles)", "images/s", "of matrix peak", "of copy peak", "GB"
    )
    yield from _line(*["---"] * 7)
    for row in run["results"]:
        memory, total = row["memory_bytes"], row["phases"]["total"]
        yield from _line(
            row["label"],
            row["size"],
            f"{1000 * total['median']:.0f} ({1000 * total['low']:.0f}–{1000 * total['high']:.0f})",
            f"{row['images_per_second']:.1f}",
            f"{row['matrix_fraction']:.0%}",
            "" if row["weight_fraction"] is None else f"{row['weight_fraction']:.0%}",
            f"{memory / 1e9:.1f}" if memory else "",
        )
    ratios = [*run["peer_ratios"], *run["twin_ratios"]]
    if ratios:
        phases = ("forward", "backward", "update", "total")
        yield ""
        yield from _line("faster", "than", *phases, "memory")
        yield from _line(*["---"] * (3 + len(phases)))
        for row in ratios:
            found = (row["phases"].get(phase) for phase in phases)
            cells = ("" if ratio is None else f"{ratio['median']:.2f}×" for ratio in found)
            memory = f"{row['memory']:.2f}×" if row["memory"] else ""
            yield from _line(row["ours"], row["against"], *cells, memory)
    yield ""
    matrix, copy = run["ceilings"]["matrix"], run["ceilings"]["copy"]
    yield f"Measured peaks: {matrix['per_second'] / 1e9:,.0f} GFLOP/s ({matrix['by']}),"
    yield f"{copy['per_second'] / 1e9:.0f} GB/s (copy)."


def _line(*cells: object) -> Iterator[str]:
    yield f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    print("\n".join(tables(json.loads(Path(sys.argv[1]).read_text()))))
