"""Batch statistics over the images of all ranks, for the networks that the paper compares with."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def synchronize(model: nn.Module) -> None:
    """Let every batch normalization of a model take its statistics over all ranks, in place."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SynchronizedBatchNorm2d.like(child))


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    r"""Batch normalization over the images that all ranks compute at a time.

    .. math:: y = \gamma\,\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    Differs from: ``torch.nn.SyncBatchNorm``, which computes on GPUs only.
    """

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> SynchronizedBatchNorm2d:
        """The same layer, with the same parameters and running statistics."""
        made = cls(norm.num_features, norm.eps, norm.momentum, device="meta")
        made._parameters, made._buffers = norm._parameters, norm._buffers
        return made.train(norm.training)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalize; in training over the batch, and move the running statistics."""
        if not self.training:
            return super().forward(x)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        over, shape = (0, 2, 3), (1, -1, 1, 1)
        count = wide.new_tensor([wide.numel() / self.num_features])
        total = _SumOverRanks.apply(torch.cat([wide.sum(over), count]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centered = wide - mean.view(shape)
        variance = _SumOverRanks.apply(centered.square().sum(over)) / count
        self._move(mean.detach(), variance.detach() * count / (count - 1))
        y = centered * (variance + self.eps).rsqrt().view(shape)
        return torch.addcmul(self.bias.view(shape), y, self.weight.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


class _SumOverRanks(torch.autograd.Function):
    """The sum over ranks; so is its gradient, because every rank's loss depends on the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _summed(grad)


def _summed(x: Tensor) -> Tensor:
    import torch.distributed as dist

    total = x.contiguous().clone()
    dist.all_reduce(total)
    return total
