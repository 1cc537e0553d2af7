"""AGC and an average of the weights with fastai's Learner.

    pip install fastai
    python examples/with_fastai.py

One callback clips before the optimizer's step, whatever the optimizer, after mixed precision has
unscaled the gradients; another averages the weights after it.
"""

from __future__ import annotations

import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from torch.nn.functional import cross_entropy

import normfree
from normfree.optim import EMA, clip_grad_agc_, param_groups


class AGC(Callback):
    """Adaptive gradient clipping.

    Args:
        clipping: λ.
    """

    order = MixedPrecision.order + 1

    def __init__(self, clipping: float = 0.01) -> None:
        self.clipping = clipping

    def before_fit(self) -> None:
        """Sort parameters by role: the classifier's weight is not clipped."""
        self.groups = param_groups(self.learn.model, clipping=self.clipping)

    def before_step(self) -> None:
        """Clip."""
        clip_grad_agc_(self.groups)


class Average(Callback):
    """An exponential moving average; ``learn.average.ema.model`` is the averaged copy.

    Args:
        decay: the cap of its decay.
    """

    def __init__(self, decay: float = 0.99999) -> None:
        self.decay, self.step = decay, 0

    def before_fit(self) -> None:
        """Begin, on the device of the network."""
        self.ema = EMA(self.learn.model, decay=self.decay)

    def after_step(self) -> None:
        """Follow the step."""
        self.ema.update(self.step)
        self.step += 1


def main() -> None:
    """Learn 32 random images by heart."""
    torch.manual_seed(0)
    images, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 8
    pairs = list(zip(images, labels, strict=True))
    loaders = DataLoaders(DataLoader(pairs, 16, shuffle=True), DataLoader(pairs, 32), device="cpu")
    learner = Learner(
        loaders,
        normfree.create_model("nfnet_pico", num_classes=8),
        loss_func=cross_entropy,
        cbs=[AGC(clipping=0.05), Average(decay=0.9)],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(16, lr=3e-3)
    accuracy = (learner.average.ema.model(images).argmax(1) == labels).float().mean()
    print(f"the average knows {accuracy:.0%} of the images")


if __name__ == "__main__":
    main()
