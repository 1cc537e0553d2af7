"""Batch size × λ, with and without AGC, and the batch-normalized twin: the shape of figure 2.

    python -m experiments.data && python -m experiments.clipping

As in section 4.1 every run sees the same number of images, so a larger batch has fewer steps, and
the learning rate grows in proportion to the batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.augmentation import FASHION, TWIN
from experiments.study import Study, main

BATCHES = (64, 256, 1024)
LAMBDAS: tuple[float | None, ...] = (None, 0.01, 0.04, 0.16)


def _row(batch: int, clipping: float | None) -> tuple[str, dict[str, Any]]:
    name = "no AGC" if clipping is None else f"AGC, λ = {clipping:g}"
    return f"batch {batch}, {name}", {"batch_size": batch, "clipping": clipping}


GRID = dict(_row(batch, clipping) for batch in BATCHES for clipping in LAMBDAS)
TWINS = {f"batch {batch}, batch-normalized": TWIN | {"batch_size": batch} for batch in BATCHES}

STUDIES = [
    Study(
        name="clipping",
        page="clipping",
        base=replace(FASHION, epochs=12, warmup_epochs=1),
        variants=GRID | TWINS,
    ),
]

if __name__ == "__main__":
    main(STUDIES, __doc__)
