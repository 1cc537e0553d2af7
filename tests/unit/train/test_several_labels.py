"""Images with several labels each, from a file to a trained network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from normfree import load
from normfree.cli import main
from normfree.data import BatchPlan, open_source, train_batches
from normfree.errors import UserError
from normfree.nn.loss import correct, sigmoid_cross_entropy, soft_labels
from normfree.train.fit import fit
from tests.unit.train.tiny import tiny_recipe


@pytest.fixture
def striped(tmp_path):
    """Images with bright stripes at the left, at the top, at both or at neither."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(160):
        left, top = rng.integers(0, 2, 2).tolist()
        labels = ["left"] * left + ["top"] * top
        pixels = rng.integers(0, 80, (8, 8, 3), np.uint8)
        pixels[:, :3] += 150 * np.uint8("left" in labels)
        pixels[:3] += 20 * np.uint8("top" in labels)
        pixels[:3, 3:] += 130 * np.uint8("top" in labels)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        split = "val" if number % 4 == 3 else "train"
        lines.append(json.dumps({"path": f"{number}.png", "labels": labels, "split": split}))
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    return f"jsonl:{tmp_path}/list.jsonl"


def test_the_labels_reach_the_batch(striped):
    source = open_source(striped, "train")
    plan = BatchPlan(seed=0, examples=len(source), batch_size=8, mixing="mixup")
    (batch,) = train_batches(source, None, plan, start=0, stop=1)
    indices = plan.step(0)[0].indices
    assert batch.labels.dtype == torch.bool
    np.testing.assert_array_equal(batch.labels.numpy(), source.labels[indices])


def test_softmax_is_refused(striped, tmp_path):
    with pytest.raises(UserError, match=r"several labels each.*--loss sigmoid"):
        fit(tiny_recipe(tmp_path / "run", data=striped))


@pytest.mark.parametrize("mixing", ["none", "mixup_cutmix"])
def test_both_labels_are_learned(striped, tmp_path, mixing):
    recipe = tiny_recipe(
        *(tmp_path / "run",),
        **{"data": striped, "loss": "sigmoid", "epochs": 20, "augment": "none", "mixing": mixing},
        **{"base_lr": 1.0, "ema_decay": 0, "checkpoint_every": 1000},
    )
    result = fit(recipe)
    predictor = load(result.directory)
    assert predictor.card.loss == "sigmoid"
    val = open_source(striped, "val")
    probabilities = predictor.probabilities([val.image(index) for index in range(len(val))])
    assert ((probabilities > 0.5) == val.labels).mean() > 0.9
    lines = [
        json.loads(line)
        for line in (result.directory / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    epoch = [line for line in lines if line["kind"] == "epoch"][-1]
    assert 0 < epoch["train_accuracy"] <= 1
    assert "val_top1" not in epoch
    assert 0.9 < epoch["val_map"] <= 1
    assert result.best >= epoch["val_map"]
    answered, truth = probabilities > 0.5, val.labels
    right = (answered & truth).sum()
    best = max((line for line in lines if line["kind"] == "epoch"), key=best_and_last)
    assert best["val_micro_f1"] == pytest.approx(2 * right / (answered.sum() + truth.sum()))


def best_and_last(line):
    """Orders lines by what chooses the weights."""
    return line["val_map"], line["epoch"]


def test_eval_repeats_the_numbers_of_the_run(striped, tmp_path, capsys):
    run = tmp_path / "run"
    fit(tiny_recipe(run, data=striped, loss="sigmoid", epochs=1, base_lr=1.0, ema_decay=0))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with pytest.raises(SystemExit):
        main(["eval", str(run), "--json"])
    found = json.loads(capsys.readouterr().out)
    for name in ("map", "micro_f1", "macro_f1"):
        assert found[name] == pytest.approx(lines[-1][f"val_{name}"])
    assert not {"top1", "top5", "confusion_matrix"} & found.keys()
    mean = np.mean([one["average_precision"] for one in found["classes"]])
    assert found["map"] == pytest.approx(mean)
    with pytest.raises(SystemExit):
        main(["eval", str(run)])
    said = capsys.readouterr().out
    assert f"mAP {found['map']:.2%}, micro F1" in said
    assert max(map(len, said.splitlines()[1:])) <= 80
    with pytest.raises(SystemExit):
        main(["report", str(run)])
    assert "best validation mean average precision" in (run / "report.html").read_text()


def test_equations_of_several_labels():
    labels = torch.tensor([[True, False, True], [False, False, False]])
    targets = soft_labels(labels, 4, 0.1)
    expected = 0.9 * torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0]]) + 0.025
    torch.testing.assert_close(targets, expected)
    mixed = soft_labels(labels, 3, mix_labels=labels.flip(0), ratio=torch.tensor([0.75, 0.75]))
    torch.testing.assert_close(mixed, torch.tensor([[0.75, 0, 0.75], [0.25, 0, 0.25]]))
    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 1.0]])
    assert [correct(logits, labels, top).item() for top in (1, 2, 3)] == [1, 1, 1]
    one_hot = torch.eye(3, dtype=torch.bool)[torch.tensor([1, 2])]
    for top in (1, 2):
        assert correct(logits, one_hot, top) == correct(logits, torch.tensor([1, 2]), top)
    assert sigmoid_cross_entropy(logits, soft_labels(one_hot, 3)).shape == (2,)
