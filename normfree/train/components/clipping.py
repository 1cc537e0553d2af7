"""What limits the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from normfree.errors import UserError
from normfree.schema import Field
from normfree.train.flags import Flag, component

if TYPE_CHECKING:
    from normfree.optim.clipping import Clipping as Clipper

#: What may be called by one word in ``unclipped`` → where it is in a network.
LAYERS = {f"stage{number}": f"stages.{number - 1}" for number in (1, 2, 3, 4)}


@component
class AGC:
    """Adaptive gradient clipping: no unit's gradient exceeds λ times the unit's norm."""

    kind: Annotated[Literal["unit", "layer"], Flag("clip")] = "unit"
    """Whose norms are compared. unit: each output unit's, as the paper's AGC; layer: each
    tensor's; global: the gradient's alone, without AGC."""
    clipping: Annotated[float, Field(gt=0)] | Literal["auto"] = 0.01
    """AGC's λ: largest ratio of a unit's gradient norm to its weight norm; with --clip global the
    largest norm of the whole gradient. auto: λ for the batch size. None: no clipping."""
    eps: Annotated[float, Flag("agc_eps")] = Field(default=1e-3, gt=0)
    """AGC's ε: a weight norm below it counts as ε."""
    unclipped: tuple[str, ...] = ("classifier",)
    """Layers that AGC leaves alone: classifier (its weight), first_conv, stem, stage1 … stage4,
    head, or names of modules."""

    def limit(self, batch: int) -> float:
        """λ, for batches of this size."""
        from normfree.optim import advised_clipping

        return advised_clipping(batch) if self.clipping == "auto" else self.clipping

    def build(self, limit: float) -> Clipper:
        """What clips in front of an optimizer that does not clip by itself."""
        from normfree.optim import clipping as optim

        return optim.AGC(clipping=limit, eps=self.eps, unitwise=self.kind == "unit")


def _refuse_auto(value: Any) -> Any:
    """Say what ``auto`` means before the schema says that it is no number."""
    if value == "auto":
        raise UserError(
            "--clipping auto is AGC's λ; with --clip global, give the largest norm of the gradient,"
            " such as --clipping 1.0"
        )
    return value


@component
class GlobalNorm:
    """The norm of the whole gradient is limited."""

    kind: Annotated[Literal["global"], Flag("clip")] = "global"
    """As for unit."""
    norm: Annotated[float, BeforeValidator(_refuse_auto), Flag("clipping")] = Field(gt=0)
    """The largest norm of the whole gradient."""

    def limit(self, batch: int) -> float:
        """The largest norm of the gradient."""
        return self.norm

    def build(self, limit: float) -> Clipper:
        """What clips in front of the optimizer."""
        from normfree.optim import clipping as optim

        return optim.GlobalNorm(max_norm=limit)
