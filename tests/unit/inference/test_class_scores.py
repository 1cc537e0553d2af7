from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree.inference import Answers
from normfree.inference.class_scores import (
    Confusion,
    confusion_matrix,
    scores_of_counts,
)


def one_class(labels: np.ndarray, answers: np.ndarray, label: int) -> tuple[float, float, float]:
    """Precision, recall and F1, from their definitions."""
    right = np.sum((labels == label) & (answers == label))
    precision = right / np.sum(answers == label)
    recall = right / np.sum(labels == label)
    return precision, recall, 2 * precision * recall / (precision + recall)


def seen(labels: np.ndarray, logits: np.ndarray) -> Confusion:
    confusion = Confusion()
    for some in np.array_split(np.arange(len(labels)), 7):
        x, y = torch.from_numpy(logits[some]), torch.from_numpy(labels[some])
        confusion.see(Answers(x, y, torch.zeros(len(some))))
    return confusion


def test_numbers_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 6, 300), rng.normal(size=(300, 6))
    logits[np.arange(300), labels] += 1
    answers = logits.argmax(axis=1)
    confusion = seen(labels, logits)
    scores = scores_of_counts(confusion.counts, 6)
    for label in range(6):
        mine = (scores.precision[label], scores.recall[label], scores.f1[label])
        assert mine == pytest.approx(one_class(labels, answers, label))
    np.testing.assert_array_equal(scores.support, np.bincount(labels))
    recalls = [one_class(labels, answers, label)[1] for label in range(6)]
    assert scores.balanced_accuracy == pytest.approx(np.mean(recalls))
    matrix = confusion_matrix(confusion.counts, 6)
    for label in range(6):
        for answer in range(6):
            assert matrix[label, answer] == np.sum((labels == label) & (answers == answer))


def test_a_class_without_images_does_not_count() -> None:
    scores = scores_of_counts({(0, 0): 3, (1, 2): 1}, 4)
    np.testing.assert_array_equal(scores.recall, [1.0, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(scores.precision, [1.0, np.nan, 0.0, np.nan])
    np.testing.assert_array_equal(scores.f1, [1.0, 0.0, 0.0, np.nan])
    assert (scores.balanced_accuracy, scores.macro_f1) == (0.5, 0.5)
