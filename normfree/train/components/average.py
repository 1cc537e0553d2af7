"""The moving average of the weights."""

from __future__ import annotations

from typing import Annotated

from normfree.schema import Field
from normfree.train.flags import Flag, component


@component
class Average:
    """Exponential moving average of the weights, with a decay that warms up."""

    decay: Annotated[float, Flag("ema_decay")] = Field(default=0.99999, gt=0, lt=1)
    """Cap of the averaged weights' decay; it warms up as (1 + t) / (10 + t). 0: no average."""
