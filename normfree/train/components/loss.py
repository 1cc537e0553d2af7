"""What is minimized."""

from __future__ import annotations

from typing import Annotated, Literal

from normfree.schema import Field
from normfree.train.flags import Flag, component


@component
class Loss:
    """Cross-entropy."""

    kind: Annotated[Literal["softmax", "sigmoid"], Flag("loss")] = "softmax"
    """softmax: cross-entropy over the classes; sigmoid: the sum of a binary one for each class."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the label that is spread over all classes."""
