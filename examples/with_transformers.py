"""AGC and an average of the weights with the Trainer of Hugging Face Transformers.

    pip install transformers accelerate
    python examples/with_transformers.py

``AGCSGD`` clips in its step, after the trainer has accumulated, averaged and unscaled gradients, so
the trainer's own clipping is off. A callback averages the weights.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

import normfree
from normfree.optim import AGCSGD, EMA, param_groups, warmup_cosine


class Images(Dataset):
    """Random images; the trainer passes an example's entries to the network by name."""

    def __init__(self, count: int) -> None:
        self.images, self.labels = torch.randn(count, 3, 8, 8), torch.arange(count) % 8

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"images": self.images[index], "labels": self.labels[index]}


class WithLoss(nn.Module):
    """Returns what the trainer expects: a loss, and logits.

    Args:
        network: returns logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy."""
        logits = self.network(images)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class Average(TrainerCallback):
    """Averages the weights after every step."""

    def __init__(self, ema: EMA) -> None:
        self.ema = ema

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Follow the step."""
        self.ema.update(state.global_step - 1)


def main() -> None:
    """Learn 32 random images by heart."""
    torch.manual_seed(0)
    logging.set_verbosity_error()
    network, data = normfree.create_model("nfnet_pico", num_classes=8), Images(32)
    optimizer = AGCSGD(param_groups(network, weight_decay=2e-5, clipping=0.05), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, peak=0.3, warmup_steps=4, total_steps=48)
    )
    ema = EMA(network, decay=0.9)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=48,
            per_device_train_batch_size=16,
            max_grad_norm=0,  # AGC clips
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(
            WithLoss(network),
            arguments,
            train_dataset=data,
            callbacks=[Average(ema)],
            optimizers=(optimizer, schedule),
        )
        loss = trainer.train().training_loss
    accuracy = (ema.model(data.images).argmax(1) == data.labels).float().mean()
    print(f"mean loss {loss:.2f}, the average knows {accuracy:.0%} of the images")


if __name__ == "__main__":
    main()
