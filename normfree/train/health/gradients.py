"""Look at a gradient once it is complete, before the weights move."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.optim.shards import counts, is_sharded, local
from normfree.train.health.skipped import SkippedSteps
from normfree.train.health.step_watch import StepWatch
from normfree.train.runtime import Runtime


class GradientWatch(StepWatch):
    """Takes the norms of gradients, on the device, and refuses those that are not finite.

    Whether a step is taken has to be known before the weights move. So with ``skips`` the host
    waits for the device once in each step. Otherwise it never does: norms lie on the device until
    somebody reads them.

    Args:
        model: whose gradients these are.
        runtime: the ranks.
        skipped: steps that are left out.
        skips: whether a gradient or a loss that is not finite is refused.
        every: steps between two looks.
        on_skip: called with a step that is refused, and why.

    Attributes:
        norms: of the gradients that were complete last, by parameter; of a sharded one, that of
            this rank's rows. None where no look was due, or gradients were dropped meanwhile.
    """

    def __init__(
        self,
        model: nn.Module,
        runtime: Runtime,
        skipped: SkippedSteps,
        *,
        skips: bool = False,
        every: int = 1,
        on_skip: Callable[[int, str], None] = lambda step, reason: None,
    ) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.params = [p for _, p in named]
        self.counted = [_counts(p, runtime) for p in self.params]
        self.runtime = runtime
        self.skipped = skipped
        self.may_refuse = skips
        self.every = every
        self.on_skip = on_skip
        self.norms: Float[Tensor, " parameters"] | None = None

    def leaves_out(self, step: int) -> bool:
        """Whether the batch of a step is left out, because it was before."""
        self.norms = None
        return step in self.skipped

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Take the norms of a step's gradients, if that is due."""
        grads = [p.grad for p in self.params]
        due = self.may_refuse or (step + 1) % self.every == 0
        if due and all(grad is not None for grad in grads):
            found = [local(grad) for grad in grads if grad is not None]
            self.norms = torch.stack(torch._foreach_norm(found)).float()

    def refuses(self, step: int, loss: Float[Tensor, ""]) -> bool:
        """Whether the loss or a gradient is not finite, on any rank."""
        if not self.may_refuse:
            return False
        seen = loss.detach() if self.norms is None else loss.detach() + self.norms.sum()
        if bool(torch.isfinite(self.runtime.summed(seen))):
            return False
        self.on_skip(step, self.reason(float(loss), self.norms))
        return True

    def squares(self, norms: Float[Tensor, " parameters"]) -> Float[Tensor, ""]:
        """This rank's share of the squared norm of the whole gradient, in float64."""
        kind = torch.float32 if norms.device.type == "mps" else torch.float64
        mask = torch.tensor(self.counted, dtype=kind, device=norms.device)
        return torch.where(mask > 0, norms.to(kind).square(), 0).sum()

    def reason(self, loss: float, norms: Float[Tensor, " parameters"] | None) -> str:
        """What was not finite."""
        bad = [] if norms is None else _not_finite(norms, self.names)
        said = [] if loss - loss == 0 else [f"the loss is {loss:g}"]
        if bad:
            said.append(
                f"the gradients of {len(bad)} of {len(self.names)} parameters, the first of them "
                f"{bad[0]}, are not finite"
            )
        return " and ".join(said) or "the loss or a gradient of another process is not finite"


def _not_finite(norms: Tensor, names: Sequence[str]) -> list[str]:
    good = torch.isfinite(norms).tolist()
    return [name for name, fine in zip(names, good, strict=True) if not fine]


def _counts(param: Tensor, runtime: Runtime) -> bool:
    """Whether this rank counts the norm of a parameter's rows, which the ranks add up."""
    if not is_sharded(param):
        return runtime.main
    mesh = param.device_mesh  # type: ignore[attr-defined]
    replica = mesh.ndim == 2 and mesh.get_local_rank(0) > 0  # the same rows as another group
    return counts(param, unitwise=True) and not replica
