"""Add a metric: a function of a network's answers, and an entry in the table of metrics.

    python examples/add_a_metric.py

A metric takes the logits, labels and losses of a batch and returns the sum of what it measures
over the images. In the package it would be defined next to ``top1`` in ``inference/evaluate.py``,
with an entry in ``METRICS``; every epoch line, ``normfree eval`` and ``--json`` would then include
it. From outside the package, pass it to ``evaluate``, as here.
"""

from __future__ import annotations

import torch
from torch import Tensor

import normfree
from normfree.augment import normalize
from normfree.data import Batch, dataset_statistics, eval_batches, open_source
from normfree.inference import METRICS, Answers, evaluate


def confidence(answers: Answers) -> Tensor:
    """Probability of the likeliest class, summed over the images."""
    return answers.logits.softmax(dim=1).amax(dim=1).sum()


def main() -> None:
    """Evaluate an untrained network on made-up images."""
    source = open_source("synthetic:64x8x1x4", "val")
    mean, std = dataset_statistics(source)
    torch.manual_seed(0)
    model = normfree.create_model("nfnet_pico", num_classes=4, in_channels=1)

    def prepare(batch: Batch) -> tuple[Tensor, Tensor]:
        return normalize(batch.images, mean, std), batch.labels

    found = evaluate(
        {"untrained": model},
        eval_batches(source, None, batch_size=8),
        prepare,
        metrics={**METRICS, "confidence": confidence},
    )["untrained"]
    for name, value in found.metrics.items():
        print(f"{name:12}{'–' if value is None else f'{value:.3f}'}")


if __name__ == "__main__":
    main()
