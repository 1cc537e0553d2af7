"""The optimizers, and their learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from normfree.schema import Field
from normfree.train.components.clipping import AGC, GlobalNorm
from normfree.train.flags import Flag, component

if TYPE_CHECKING:
    import torch

Groups = Sequence[dict[str, Any]]
Clipping = AGC | GlobalNorm | None
Momentum = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


@component
class ScaledRate:
    """A peak learning rate in proportion to the batch."""

    base_lr: float = Field(default=0.1, gt=0)
    """Peak learning rate for 256 images a step; it grows in proportion to the batch."""

    def peak(self, batch: int) -> float:
        """base_lr · B / 256."""
        return self.base_lr * batch / 256


@component
class FixedRate:
    """A peak learning rate, whatever the batch."""

    lr: float = Field(gt=0)
    """Peak learning rate itself, instead of --base-lr."""

    def peak(self, batch: int) -> float:
        """The rate."""
        return self.lr


@component
class SGD:
    """Stochastic gradient descent with momentum: the paper's optimizer."""

    kind: Annotated[Literal["sgd"], Flag("optimizer")] = "sgd"
    """sgd: the paper's; lars; rmsprop: as EfficientNets are trained; adamw; muon: for short runs,
    orthogonal steps of the weights, and Adam's of everything else."""
    rate: ScaledRate | FixedRate = ScaledRate()
    momentum: Momentum = 0.9
    """Momentum."""
    nesterov: bool = True
    """Nesterov's form of the momentum."""
    weight_decay: NotNegative = 2e-5
    """L2 penalty on weights (adamw, muon: decoupled); gains and biases have none."""

    def build(self, groups: Groups, lr: float, clipping: Clipping) -> torch.optim.Optimizer:
        """The optimizer, which clips by units as it goes."""
        from normfree.optim import AGCSGD

        agc = clipping if isinstance(clipping, AGC) else AGC()
        return AGCSGD(
            groups,
            lr=lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            eps=agc.eps,
            unitwise=agc.kind == "unit",
        )


@component
class LARS:
    """Layer-wise adaptive rate scaling."""

    kind: Annotated[Literal["lars"], Flag("optimizer")] = "lars"
    """As for sgd."""
    rate: FixedRate
    momentum: Momentum = 0.9
    """Momentum."""
    weight_decay: NotNegative = 2e-5
    """As for sgd."""
    trust: float = Field(default=0.001, gt=0)
    """Share of its norm by which a layer moves at a rate of 1."""

    def build(self, groups: Groups, lr: float, clipping: Clipping) -> torch.optim.Optimizer:
        """The optimizer."""
        from normfree import optim

        return optim.LARS(groups, lr=lr, momentum=self.momentum, trust=self.trust)


@component
class RMSprop:
    """RMSProp as TensorFlow has it."""

    kind: Annotated[Literal["rmsprop"], Flag("optimizer")] = "rmsprop"
    """As for sgd."""
    rate: FixedRate
    momentum: Momentum = 0.9
    """Momentum."""
    weight_decay: NotNegative = 2e-5
    """As for sgd."""
    decay: Annotated[float, Flag("rmsprop_decay")] = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean square."""
    eps: Annotated[float, Flag("rmsprop_eps")] = Field(default=1e-3, ge=0)
    """What is added to the mean square."""

    def build(self, groups: Groups, lr: float, clipping: Clipping) -> torch.optim.Optimizer:
        """The optimizer."""
        from normfree.optim import RMSProp

        return RMSProp(groups, lr=lr, momentum=self.momentum, decay=self.decay, eps=self.eps)


@component
class AdamW:
    """Adam with decoupled weight decay."""

    kind: Annotated[Literal["adamw"], Flag("optimizer")] = "adamw"
    """As for sgd."""
    rate: FixedRate
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    """Decay of the first and of the second moment."""
    weight_decay: NotNegative = 2e-5
    """As for sgd."""
    eps: Annotated[float, Flag("adam_eps")] = Field(default=1e-8, gt=0)
    """What is added to the square root of the second moment."""

    def build(self, groups: Groups, lr: float, clipping: Clipping) -> torch.optim.Optimizer:
        """The optimizer."""
        import torch

        return torch.optim.AdamW(groups, lr=lr, betas=self.betas, eps=self.eps)


@component
class Muon:
    """Orthogonal steps for weights, Adam's for gains, biases and the classifier."""

    kind: Annotated[Literal["muon"], Flag("optimizer")] = "muon"
    """As for sgd."""
    rate: FixedRate
    momentum: Momentum = 0.95
    """Momentum."""
    weight_decay: NotNegative = 2e-5
    """As for sgd."""
    adam_ratio: float = Field(default=0.1, gt=0)
    """Learning rate of gains, biases and classifier, as a share of that of the weights."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.99)
    """As for adamw, of what Adam moves."""

    def build(self, groups: Groups, lr: float, clipping: Clipping) -> torch.optim.Optimizer:
        """The optimizer; the classifier's weight is no hidden layer's, so that Adam moves it."""
        from normfree.optim import Muon as MuonOptimizer

        parted = [{**group, "orthogonal": group["name"] != "classifier weight"} for group in groups]
        return MuonOptimizer(
            parted,
            lr=lr,
            momentum=self.momentum,
            adam_ratio=self.adam_ratio,
            betas=self.betas,
        )
