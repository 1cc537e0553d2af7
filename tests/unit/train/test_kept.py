"""What a run keeps and says: the best weights and the last, the test line, one writer, warnings."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from normfree.errors import UserError
from normfree.inference import load
from normfree.train.fit import fit
from normfree.train.run import Run
from normfree.train.run_dir import RunDirectory
from tests.unit.train.tiny import assert_same_bits, final_state, timeless_metrics, tiny_recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    fit(tiny_recipe(out))
    return out


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A folder of bright and dark images, with a test split."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        for label, level in (("bright", 180), ("dark", 60)):
            place = tmp_path / "images" / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(level - 40, level + 40, (12, 14, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "images"


FOLDER: dict[str, Any] = {"augment": "crop_flip", "batch_size": 4, "epochs": 2, "log_every": 99}


def test_test_images_are_looked_at_once_with_the_weights_that_validation_chose(
    splits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    result = fit(tiny_recipe(out, data=f"folder:{splits}", **FOLDER))
    (line,) = (x for x in timeless_metrics(out) if x["kind"] == "test")
    assert line["step"] == result.steps
    assert result.last["test_top1"] == line["test_top1"]
    chosen = load(out / "model.safetensors")
    images = sorted((splits / "test").rglob("*.png"))
    guesses = [image[0].label for image in chosen.predict(images, top=1)]
    right = sum(guess == path.parent.name for guess, path in zip(guesses, images, strict=True))
    assert line["test_top1"] == pytest.approx(right / len(images))
    fit(tiny_recipe(out, data=f"folder:{splits}", **FOLDER, resume=True))
    assert sum(x["kind"] == "test" for x in timeless_metrics(out)) == 1


def test_without_test_images_there_is_no_test_line(finished: Path) -> None:
    assert {line["kind"] for line in timeless_metrics(finished)} == {"train", "epoch"}


def test_the_last_weights_lie_beside_the_best(finished: Path) -> None:
    last = load(finished / "last.safetensors")
    epochs = [line for line in timeless_metrics(finished) if line["kind"] == "epoch"]
    assert last.card.metrics["val_top1_ema"] == epochs[-1]["val_top1_ema"]
    averaged = {
        name.removeprefix(".ema."): value
        for name, value in final_state(finished).items()
        if name.startswith(".ema.")
    }
    assert_same_bits(dict(last.model.state_dict()), averaged)


def test_training_and_evaluation_are_timed_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Run.validate

    def slow(self: Run) -> dict[str, Any]:
        time.sleep(0.5)
        return real(self)

    monkeypatch.setattr(Run, "validate", slow)
    began = time.perf_counter()
    fit(tiny_recipe(tmp_path / "run", eval_every=2, report=False, telemetry=False))
    whole = time.perf_counter() - began
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    first, second, third = (line for line in lines if line["kind"] == "epoch")
    assert "eval_seconds" not in first
    assert min(second["eval_seconds"], third["eval_seconds"]) >= 0.5
    spent = [line.get(name, 0) for line in lines for name in ("seconds", "eval_seconds")]
    assert sum(spent) <= whole
    assert all(line["seconds"] > 0 for line in (first, second, third))


def test_without_an_average_the_weights_themselves_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(tiny_recipe(out, ema_decay=0))
    state = final_state(out)
    assert not [name for name in state if name.startswith(".ema.")]
    epochs = [line for line in timeless_metrics(out) if line["kind"] == "epoch"]
    assert not [name for line in epochs for name in line if name.endswith("_ema")]
    raw = {n.removeprefix(".model."): v for n, v in state.items() if n.startswith(".model.")}
    assert_same_bits(dict(load(out / "last.safetensors").model.state_dict()), raw)
    fit(tiny_recipe(out, ema_decay=0, resume=True))


def test_two_runs_cannot_train_in_one_directory(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(tiny_recipe(out))
    with RunDirectory(out).locked(), pytest.raises(UserError, match="another process is training"):
        fit(tiny_recipe(out, resume=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sam_rho": 0.05, "sam_scope": "micro_batch"}, "raise --accumulate"),
        ({"model": "nfnet_picco"}, "did you mean nfnet_pico"),
        ({"clipping": 0.1, "unclipped": ("nothing",)}, "unknown layer"),
    ],
)
def test_a_run_that_cannot_start_leaves_nothing_behind(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        fit(tiny_recipe(tmp_path / "run", **changes))
    with pytest.raises(UserError, match="holds no run"):
        fit(tiny_recipe(tmp_path / "run", resume=True))
    assert not (tmp_path / "run").exists()


def test_a_warm_up_that_outlasts_the_run_is_a_warning(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    fit(tiny_recipe(tmp_path / "run", warmup_steps=100, epochs=1), console)
    assert "warning: the warm-up of 100 steps is longer" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("left", ["", '{"kind": "epoch", "step": 8, "val_top1": null}\n'])
def test_a_finished_run_without_its_metrics_ends_all_the_same(left: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipe = tiny_recipe(out)
    fit(recipe)
    (out / "metrics.jsonl").write_text(left)
    result = fit(recipe.override(resume=True))
    assert result.steps == 8
    assert result.last == (json.loads(left) if left else {})
