"""Sharpness-aware minimization."""

from __future__ import annotations

from typing import Annotated

from normfree.data.ascent import AscentScope
from normfree.schema import Field
from normfree.train.flags import Flag, component


@component
class SharpnessAware:
    """The gradient is taken where the weights ascend to."""

    rho: Annotated[float, Flag("sam_rho")] = Field(gt=0)
    """Sharpness-aware minimization: how far the weights ascend before the gradient is taken that
    they are updated with; 0 switches it off."""
    fraction: Annotated[float, Flag("sam_fraction")] = Field(default=1.0, gt=0, le=1)
    """Share of the batch whose gradient the ascent follows; the paper's cheap form has 0.2."""
    scope: Annotated[AscentScope, Flag("sam_scope")] = "batch"
    """batch: one ascent for the whole batch; micro_batch: each micro-batch of --accumulate ascends
    by its own gradient, as unsynchronized replicas would; other_batch: one ascent by the gradient
    of other images, which the paper found to be of no use."""
