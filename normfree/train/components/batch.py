"""How many images make a step, and how many of them are computed at a time."""

from __future__ import annotations

from typing import Annotated

from normfree.errors import UserError
from normfree.schema import Field
from normfree.train.flags import Flag, component


@component
class Batch:
    """The images of one optimizer step."""

    size: Annotated[int, Flag("batch_size")] = Field(gt=0, le=1 << 24)
    """Images of one optimizer step."""
    accumulate: int = Field(default=1, gt=0)
    """Micro-batches in which a batch is read and computed, one after the other, to save memory."""

    def __post_init__(self) -> None:
        """Refuse empty micro-batches."""
        if self.accumulate > self.size:
            raise UserError(
                f"--accumulate {self.accumulate} asks for more micro-batches than the batch has "
                f"images; choose at most {self.size}"
            )

    @property
    def micro(self) -> int:
        """Images of the smallest micro-batch."""
        return self.size // self.accumulate
