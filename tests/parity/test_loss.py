"""The loss equals the reference's, on plain and on mixed labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree.nn.loss import soft_labels, softmax_cross_entropy
from tests.parity.reference import arrays


@pytest.mark.parametrize("case", ["plain", "mix"])
def test_loss_and_its_gradient(case: str) -> None:
    stored = arrays("loss_unit")
    logits = torch.from_numpy(stored["logits"]).requires_grad_()
    mixed = {}
    if case == "mix":
        mixed = {
            "mix_labels": torch.from_numpy(stored["mix_labels"]).long(),
            "ratio": torch.from_numpy(stored["ratio"]),
        }
    labels = torch.from_numpy(stored["labels"]).long()
    targets = soft_labels(labels, 10, float(stored["label_smoothing"]), **mixed)

    loss = softmax_cross_entropy(logits, targets).mean()
    loss.backward()

    assert abs(loss.item() - float(stored[f"{case}/loss"])) <= 1e-6
    assert np.abs(logits.grad.numpy() - stored[f"{case}/dlogits"]).max() <= 1e-6
