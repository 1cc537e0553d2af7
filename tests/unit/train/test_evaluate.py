from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from normfree.data import Batch
from normfree.errors import UserError
from normfree.train.device_transform import DeviceTransform
from normfree.train.evaluate import evaluate

INPUTS = DeviceTransform(mean=(0.0,), std=(1.0,), device="cpu")


class Table(nn.Module):
    """Looks its logits up by the only pixel of the image."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return self.logits[x.flatten().long()]


def batches(labels: np.ndarray, size: int) -> list[Batch]:
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    parts = zip(images.split(size), torch.from_numpy(labels).split(size), strict=True)
    return [Batch(x, y, torch.zeros_like(y)) for x, y in parts]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_numbers_equal_numpys(size: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 8)).astype(np.float32)
    labels = rng.integers(0, 8, 50)
    wide = logits.astype(np.float64)
    log_p = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    order = np.argsort(-logits, axis=1)

    found = evaluate({"net": Table(logits)}, batches(labels, size), INPUTS)["net"]

    assert found.images == 50
    assert found.top1 == pytest.approx(np.mean(order[:, 0] == labels))
    assert found.top5 == pytest.approx(np.mean((order[:, :5] == labels[:, None]).any(axis=1)))
    assert found.loss == pytest.approx(-log_p[np.arange(50), labels].mean(), rel=1e-6)


def test_fewer_than_five_classes_have_no_top5() -> None:
    logits = np.eye(4, dtype=np.float32)
    found = evaluate({"net": Table(logits)}, batches(np.arange(4), 2), INPUTS)["net"]
    assert (found.top1, found.top5) == (1.0, None)


def test_several_networks_in_one_pass_and_their_modes_come_back() -> None:
    good, bad = np.eye(5, dtype=np.float32), -np.eye(5, dtype=np.float32)
    models = {"good": Table(good).train(), "bad": Table(bad).eval()}
    found = evaluate(models, iter(batches(np.arange(5), 2)), INPUTS)
    assert (found["good"].top1, found["bad"].top1) == (1.0, 0.0)
    assert (models["good"].training, models["bad"].training) == (True, False)


def test_a_part_in_evaluation_mode_stays_so() -> None:
    model = nn.Sequential(Table(np.eye(5, dtype=np.float32)), nn.Dropout()).train()
    model[1].eval()
    evaluate({"net": model}, batches(np.arange(5), 2), INPUTS)
    assert [part.training for part in model.modules()] == [True, True, False]


def test_nothing_to_evaluate_is_said() -> None:
    with pytest.raises(UserError, match="no readable image"):
        evaluate({"net": Table(np.eye(5, dtype=np.float32))}, [], INPUTS)


def test_the_mode_is_restored_when_reading_fails() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).train()

    def broken() -> Iterator[Batch]:
        yield Batch(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64), torch.zeros(1))
        raise UserError("no more")

    inputs = DeviceTransform(mean=(0.0,), std=(1.0,), device="cpu")
    with pytest.raises(UserError, match="no more"):
        evaluate({"": model}, broken(), inputs)
    assert all(part.training for part in model.modules())
