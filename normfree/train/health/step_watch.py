"""What a step asks before it moves the weights."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


class StepWatch:
    """Lets all steps pass; a subclass looks closer."""

    may_refuse = False

    def leaves_out(self, step: int) -> bool:
        """Whether the batch of a step is left out."""
        return False

    def look(self, step: int) -> None:
        """The gradient is complete."""

    def refuses(self, step: int, loss: Float[Tensor, ""]) -> bool:
        """Whether the step must not be taken, on all ranks."""
        return False


#: Of a step that nobody watches.
UNWATCHED = StepWatch()
