"""Add an optimizer: Lion, with adaptive gradient clipping in front of it.

    python examples/add_an_optimizer.py

An optimizer is one class: the ranges of its settings, and how a list of parameters is updated.
It does not clip: ``AGC`` does, before any optimizer's step. Lion is algorithm 2 of Chen
et al. (2023): the sign of an average of gradients, with decoupled weight decay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy

import normfree
from normfree.optim import AGC, ListOptimizer, param_groups
from normfree.optim.buckets import Bucket
from normfree.optim.settings import AT_LEAST_ZERO, FRACTION


class Lion(ListOptimizer):
    r"""Sign momentum.

    .. math::
        w &\leftarrow w - \eta\,(\mathrm{sign}(\beta_1 m + (1 - \beta_1) g) + \omega w) \\
        m &\leftarrow \beta_2 m + (1 - \beta_2) g
    """

    ranges: ClassVar = {
        "lr": AT_LEAST_ZERO,
        "beta1": FRACTION,
        "beta2": FRACTION,
        "weight_decay": AT_LEAST_ZERO,
    }

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-4,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def update_(self, bucket: Bucket, group: dict[str, Any]) -> None:
        """Step, then accumulate momentum."""
        w, g, m = bucket.params, bucket.grads, self.buffers(bucket, "momentum_buffer")
        steps = torch._foreach_sign(torch._foreach_lerp(m, g, 1 - group["beta1"]))
        torch._foreach_mul_(w, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_sub_(w, torch._foreach_mul(steps, group["lr"]))
        torch._foreach_lerp_(m, g, 1 - group["beta2"])


def main() -> None:
    """Train a tiny network to tell apart eight random images."""
    torch.manual_seed(0)
    model = normfree.create_model("nfnet_pico", num_classes=8)
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8)
    optimizer = Lion(param_groups(model, weight_decay=0.01, clipping=0.1), lr=1e-3)
    clip = AGC(eps=1e-3)
    for step in range(21):
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        clipped = clip.clip_(optimizer.param_groups)
        optimizer.step()
        if step % 5 == 0:
            units = f"{int(clipped.clipped_units)} of {clipped.total_units} units clipped"
            print(f"step {step:2}  loss {loss.item():.4f}  {units}")


if __name__ == "__main__":
    main()
