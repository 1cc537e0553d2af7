from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from normfree.data import Batch
from normfree.inference import evaluate
from normfree.inference.several_labels import (
    Scores,
    average_precision,
    average_precisions,
    joined,
    mean_average_precision,
)


def oracle_ap(scores: np.ndarray, labels: np.ndarray) -> float:
    """The definition: over every threshold, the recall that it gains times its precision."""
    total, before = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        answered = scores >= threshold
        precision = labels[answered].mean()
        recall = labels[answered].sum() / labels.sum()
        total += (recall - before) * precision
        before = recall
    return total


def oracle_f1(answered: np.ndarray, labels: np.ndarray) -> float:
    right = (answered & labels).sum()
    precision, recall = right / max(answered.sum(), 1), right / labels.sum()
    return 0.0 if right == 0 else 2 * precision * recall / (precision + recall)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6))
@settings(max_examples=100)
def test_average_precision_is_its_definition(seed: int, images: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, images).astype(np.float32)  # many ties
    labels = rng.random(images) < 0.4
    labels[rng.integers(images)] = True
    found = average_precision(scores, labels)
    assert found == pytest.approx(oracle_ap(scores, labels))
    order = rng.permutation(images)
    assert average_precision(scores[order], labels[order]) == found  # to the bit


class Fixed(nn.Module):
    """Gives each image's row of a table."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits[x.flatten().long()]


def batches(labels: np.ndarray, size: int, rank: int = 0, world: int = 1) -> list[Batch]:
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    truth = torch.from_numpy(labels)
    parts = zip(images.split(size), truth.split(size), strict=True)
    return [Batch(x, y, torch.zeros(len(y))) for x, y in list(parts)[rank::world]]


def plain(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.images, batch.labels


def example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.random((90, 4)) < 0.3
    labels[:, 2] = False  # a class without images
    logits = rng.normal(size=(90, 5)).astype(np.float32)  # one output more than classes
    logits[:, :4] += labels
    return logits, labels


def test_the_metrics_of_an_evaluation_equal_numpys() -> None:
    logits, labels = example()
    found = evaluate({"": Fixed(logits)}, batches(labels, 16), plain, "sigmoid")[""]
    answered = logits[:, :4] > 0
    with_images = [0, 1, 3]
    aps = [oracle_ap(logits[:, c], labels[:, c]) for c in with_images]
    f1s = [oracle_f1(answered[:, c], labels[:, c]) for c in with_images]
    assert found["map"] == pytest.approx(np.mean(aps))
    assert found["macro_f1"] == pytest.approx(np.mean(f1s))
    assert found["micro_f1"] == pytest.approx(oracle_f1(answered.ravel(), labels.ravel()))
    assert (found.metrics["top1"], found.metrics["top5"]) == (None, None)
    assert found.scores is not None
    assert np.isnan(average_precisions(found.scores)[2])


@pytest.mark.parametrize("world", [2, 3, 8])
def test_many_ranks_find_what_one_finds_to_the_bit(world: int) -> None:
    logits, labels = example()
    alone = evaluate({"": Fixed(logits)}, batches(labels, 16), plain, "sigmoid")[""]
    parts: list[Scores | None] = []
    for rank in range(world):  # eight ranks, but only six batches: some have none
        own: list[Scores | None] = []

        def keep(scores: Scores | None, own: list[Scores | None] = own) -> list[Scores | None]:
            own.append(scores)
            return [scores]

        mine = batches(labels, 16, rank, world)
        evaluate(
            {"": Fixed(logits)},
            mine,
            plain,
            "sigmoid",
            gather=keep,
            add_up=lambda sums: torch.full_like(sums, 90),
        )
        parts += own
    assert len(parts) == world
    whole = joined(parts)
    assert whole is not None
    assert mean_average_precision(whole) == alone["map"]


def test_scores_that_are_no_numbers_and_none_at_all() -> None:
    assert np.isnan(average_precision(np.array([np.nan, 1.0]), np.array([True, False])))
    assert average_precision(np.array([np.inf, -np.inf]), np.array([True, False])) == 1.0
    assert np.isnan(average_precision(np.array([1.0]), np.array([False])))
    assert joined([None, None]) is None
