from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from normfree.data import Batch
from normfree.errors import UserError
from normfree.inference import METRICS, Answers, evaluate


def plain(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and labels unchanged."""
    return batch.images.float(), batch.labels


class Table(nn.Module):
    """Looks up its logits by the image's only pixel."""

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

    found = evaluate({"net": Table(logits)}, batches(labels, size), plain)["net"]

    assert found.images == 50
    assert found["top1"] == pytest.approx(np.mean(order[:, 0] == labels))
    assert found["top5"] == pytest.approx(np.mean((order[:, :5] == labels[:, None]).any(axis=1)))
    assert found["loss"] == pytest.approx(-log_p[np.arange(50), labels].mean(), rel=1e-6)


@pytest.mark.parametrize("classes", [4, 5, 6])
def test_only_more_than_five_classes_have_a_top5(classes: int) -> None:
    logits = np.eye(classes, dtype=np.float32)
    found = evaluate({"net": Table(logits)}, batches(np.arange(classes), 2), plain)["net"]
    assert (found["top1"], found.metrics["top5"]) == (1.0, 1.0 if classes > 5 else None)


def test_several_networks_in_one_pass_and_their_modes_come_back() -> None:
    good, bad = np.eye(5, dtype=np.float32), -np.eye(5, dtype=np.float32)
    models = {"good": Table(good).train(), "bad": Table(bad).eval()}
    found = evaluate(models, iter(batches(np.arange(5), 2)), plain)
    assert (found["good"]["top1"], found["bad"]["top1"]) == (1.0, 0.0)
    assert (models["good"].training, models["bad"].training) == (True, False)


def test_a_part_in_evaluation_mode_stays_so() -> None:
    model = nn.Sequential(Table(np.eye(5, dtype=np.float32)), nn.Dropout()).train()
    model[1].eval()
    evaluate({"net": model}, batches(np.arange(5), 2), plain)
    assert [part.training for part in model.modules()] == [True, True, False]


def test_nothing_to_evaluate_is_said() -> None:
    with pytest.raises(UserError, match="no readable image"):
        evaluate({"net": Table(np.eye(5, dtype=np.float32))}, [], plain)


def test_the_mode_is_restored_when_reading_fails() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).train()

    def broken() -> Iterator[Batch]:
        yield Batch(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64), torch.zeros(1))
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        evaluate({"": model}, broken(), plain)
    assert all(part.training for part in model.modules())


def test_a_metric_is_added_in_one_place() -> None:
    def confident(answers: Answers) -> torch.Tensor:
        return (answers.logits.softmax(dim=1).amax(dim=1) > 0.25).sum()

    logits = np.eye(5, dtype=np.float32)
    logits[3:] = 0
    metrics = {**METRICS, "confident": confident}
    found = evaluate({"": Table(logits)}, batches(np.arange(5), 2), plain, metrics=metrics)[""]
    assert found["confident"] == pytest.approx(3 / 5)
    assert list(found.metrics) == ["top1", "top5", "loss", "confident"]


def test_what_a_metric_means_nothing_for_is_said() -> None:
    found = evaluate({"": Table(np.eye(4, dtype=np.float32))}, batches(np.arange(4), 2), plain)[""]
    with pytest.raises(UserError, match="top5 does not apply"):
        found["top5"]
