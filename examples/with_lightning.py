"""AGC, an average of the weights, and SAM with Lightning's trainer.

    pip install lightning
    python examples/with_lightning.py

AGC takes the place of Lightning's gradient clipping, whose hook runs after gradients are
accumulated and unscaled. The average is validated instead of the network, and saved in its
checkpoints. SAM needs two backward passes, and so manual optimization.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import normfree
from normfree.optim import EMA, SAM, clip_grad_agc_, param_groups


class Classifier(lightning.LightningModule):
    """A network, AdamW behind AGC, and the average of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.network = normfree.create_model("nfnet_pico", num_classes=8)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Any optimizer: each group knows its λ and its weight decay."""
        groups = param_groups(self.network, weight_decay=0.01, clipping=0.05)
        return torch.optim.AdamW(groups, lr=3e-3)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, **_: Any) -> None:
        """AGC, before the optimizer's step."""
        clip_grad_agc_(optimizer.param_groups)

    def on_fit_start(self) -> None:
        """Average from here on, on the device of the network."""
        self.ema, self.averaged = EMA(self.network, decay=0.9), 0

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss."""
        images, labels = batch
        return cross_entropy(self.network(images), labels)

    def on_train_batch_end(self, *_: Any) -> None:
        """Average if there was a step, and not only a micro-batch."""
        if self.global_step > self.averaged:
            self.ema.update(self.averaged)
            self.averaged = self.global_step

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """The average answers."""
        images, labels = batch
        correct = self.ema.model(images).argmax(1) == labels
        self.log("accuracy of the average", correct.float().mean())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the average; ``self.ema.load_state_dict`` puts it back."""
        checkpoint["ema"] = self.ema.state_dict()


class SAMClassifier(Classifier):
    """The same with sharpness-aware minimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Both passes with the same keys, and so the same stochastic depth."""
        images, labels = batch
        keys = torch.randint(2**32, (len(images),), device=images.device)
        optimizer = self.optimizers()
        self.manual_backward(cross_entropy(self.network(images, keys), labels))
        with SAM(self.network.parameters(), rho=0.05).ascended():
            self.manual_backward(cross_entropy(self.network(images, keys), labels))
        clip_grad_agc_(optimizer.param_groups)
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    """Learn 32 random images by heart, without SAM and with it."""
    lightning.seed_everything(0, verbose=False)
    data = TensorDataset(torch.randn(32, 3, 8, 8), torch.arange(32) % 8)
    for classifier in (Classifier(), SAMClassifier()):
        trainer = lightning.Trainer(
            max_epochs=16,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(classifier, DataLoader(data, batch_size=16, shuffle=True), DataLoader(data, 32))
        accuracy = trainer.callback_metrics["accuracy of the average"]
        print(f"{type(classifier).__name__}: the average knows {accuracy:.0%} of the images")


if __name__ == "__main__":
    main()
