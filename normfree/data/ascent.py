"""Which examples give the gradient that sharpness-aware minimization (SAM) ascends along."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool

from normfree.schema import Field, record

AscentScope: TypeAlias = Literal["batch", "micro_batch", "other_batch"]


@record
class Ascent:
    """Which examples provide the ascent gradient of sharpness-aware minimization (SAM).

    Args:
        fraction: fraction of the examples; 0.2 in the paper's cheaper variant.
        scope: ``batch`` takes one ascent step for the whole batch; ``micro_batch`` takes one per
            micro-batch on that micro-batch's gradient, like replicas that do not synchronize;
            ``other_batch`` takes one for the whole batch, along the gradient of another batch.

    >>> Ascent(fraction=0.2, scope="other_batch").others(batch_size=40)
    8

    Source: appendix A.4 of the paper, which found that another batch destroys the benefit of SAM.
    """

    fraction: float = Field(default=1.0, gt=0, le=1)
    scope: AscentScope = "batch"

    def others(self, batch_size: int) -> int:
        """Examples that a step reads for the ascent alone."""
        return int(spread(batch_size, self.fraction).sum()) if self.scope == "other_batch" else 0


def spread(size: int, fraction: float) -> Bool[np.ndarray, " size"]:
    """Select a fraction of ``size`` positions, evenly spaced; at least one.

    >>> spread(10, 0.3).nonzero()[0]
    array([0, 3, 6])
    """
    count = max(1, round(fraction * size))
    chosen = np.zeros(size, dtype=bool)
    chosen[np.arange(count) * size // count] = True
    return chosen
