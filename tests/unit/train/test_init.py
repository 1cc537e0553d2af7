"""What a run starts from: its seed, or the weights of another."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from normfree.errors import UserError
from normfree.factory import create_model
from normfree.inference import load
from normfree.train.fit import fit
from normfree.weights import save_model
from tests.unit.train.tiny import assert_same_bits, final_state, remove, tiny_recipe
from tests.unit.weights.files import pico, write_haiku

STAGES = ("stem.", "stages.0.", "stages.1.")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five classes."""
    out = tmp_path_factory.mktemp("pre") / "run"
    fit(tiny_recipe(out, warmup_epochs=0, base_lr=1.0))
    return out


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load(run).model.state_dict()


def test_training_goes_on_from_the_weights_of_a_file(trained: Path, tmp_path: Path) -> None:
    start = weights(trained)
    fit(tiny_recipe(tmp_path / "run", init=str(trained / "model.safetensors"), lr=1e-30))
    assert_same_bits(weights(tmp_path / "run"), start)


def test_another_task_has_a_new_classifier_and_all_else_of_the_file(
    trained: Path, tmp_path: Path
) -> None:
    init = str(trained / "model.safetensors")
    other = {"data": "synthetic:64x8x1x4", "init": init, "lr": 1e-30}
    fit(tiny_recipe(tmp_path / "run", **other))
    start, now = weights(trained), weights(tmp_path / "run")
    assert now["classifier.weight"].shape[0] == 4
    body = [name for name in start if not name.startswith("classifier")]
    assert_same_bits({n: now[n] for n in body}, {n: start[n] for n in body})
    assert float(now["classifier.weight"].std()) == pytest.approx(0.01, rel=0.2)


def test_as_many_classes_of_other_names_are_another_task(trained: Path, tmp_path: Path) -> None:
    names = tuple("abcde")
    model = load(trained).model
    card = dataclasses.replace(load(trained).card, classes=names)
    save_model(model, tmp_path / "renamed.safetensors", card=card)  # type: ignore[arg-type]
    fit(tiny_recipe(tmp_path / "run", init=str(tmp_path / "renamed.safetensors"), lr=1e-30))
    start, now = weights(trained), weights(tmp_path / "run")
    assert not torch.equal(now["classifier.weight"], start["classifier.weight"])
    assert torch.equal(now["stem.conv0.weight"], start["stem.conv0.weight"])


def test_the_file_says_what_the_network_must_be(tmp_path: Path) -> None:
    model = create_model("nfnet_pico", num_classes=5, in_channels=1, widths=(16, 32, 48, 48))
    save_model(model, tmp_path / "narrow.safetensors")
    init = {"init": str(tmp_path / "narrow.safetensors")}
    fit(tiny_recipe(tmp_path / "run", **init))
    assert load(tmp_path / "run").card.model["widths"] == (16, 32, 48, 48)


@pytest.mark.parametrize("freeze", [1, 2])
def test_frozen_stages_keep_their_weights_and_the_others_move(
    trained: Path, tmp_path: Path, freeze: int
) -> None:
    init: dict[str, Any] = {"init": str(trained / "model.safetensors"), "warmup_epochs": 0}
    fit(tiny_recipe(tmp_path / "run", **init, freeze=freeze))
    start, now = weights(trained), weights(tmp_path / "run")
    frozen = [name for name in start if name.startswith(STAGES[: freeze + 1])]
    assert_same_bits({n: now[n] for n in frozen}, {n: start[n] for n in frozen})
    for part in ("stages.3.0.conv0.weight", "head.conv.weight", "classifier.weight"):
        name = next(n for n in start if n.startswith(part.rsplit(".", 2)[0]) and "weight" in n)
        assert not torch.equal(now[name], start[name])


def test_a_run_goes_on_without_the_file_it_started_from(trained: Path, tmp_path: Path) -> None:
    init = tmp_path / "start.safetensors"
    init.write_bytes((trained / "model.safetensors").read_bytes())
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit(tiny_recipe(whole, init=str(init)))
    fit(tiny_recipe(stopped, init=str(init)))
    newest = max((stopped / "checkpoints").iterdir())
    remove(newest)
    init.unlink()
    fit(tiny_recipe(stopped, init=str(init), resume=True))
    assert_same_bits(final_state(stopped), final_state(whole))


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there are no weights at"), (b"nonsense", "holds no weights")]
)
def test_weights_that_cannot_be_read_are_said_before_anything_is_made(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    init = tmp_path / "weights.safetensors"
    if content is not None:
        init.write_bytes(content)
    with pytest.raises(UserError, match=f"--init .*{said}"):
        fit(tiny_recipe(tmp_path / "run", init=str(init)))
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_refused(trained: Path, tmp_path: Path) -> None:
    init = str(trained / "model.safetensors")
    with pytest.raises(UserError, match=r"has the weights of nfnet_pico.*use --model nfnet_pico"):
        fit(tiny_recipe(tmp_path / "run", model="nfnet_nano", train_size=8, init=init))


def test_the_authors_pickles_are_weights_to_start_from(tmp_path: Path) -> None:
    model = pico(in_channels=1, num_classes=7)
    init = write_haiku(model, tmp_path / "authors.npz")
    fit(tiny_recipe(tmp_path / "run", init=str(init), lr=1e-30))
    now = weights(tmp_path / "run")
    body = {n: v for n, v in model.state_dict().items() if not n.startswith("classifier")}
    assert_same_bits({n: now[n] for n in body}, body)
    assert now["classifier.weight"].shape[0] == 5


def test_a_file_that_names_no_classes_keeps_as_many(tmp_path: Path) -> None:
    model = pico(in_channels=1, num_classes=5)
    init = write_haiku(model, tmp_path / "authors.npz")
    fit(tiny_recipe(tmp_path / "run", init=str(init), lr=1e-30))
    assert_same_bits(weights(tmp_path / "run"), dict(model.state_dict()))


def test_a_run_that_stopped_before_its_first_checkpoint_starts_from_the_file_again(
    trained: Path, tmp_path: Path
) -> None:
    settings = {"init": str(trained / "model.safetensors"), "lr": 1e-30}
    fit(tiny_recipe(tmp_path / "run", **settings))
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        remove(checkpoint)
    (tmp_path / "run" / "model.safetensors").unlink()
    fit(tiny_recipe(tmp_path / "run", **settings, resume=True))
    assert_same_bits(weights(tmp_path / "run"), weights(trained))


def test_a_run_or_its_checkpoint_is_something_to_start_from(trained: Path, tmp_path: Path) -> None:
    newest = max((trained / "checkpoints").iterdir())
    for number, init in enumerate((trained, newest)):
        fit(tiny_recipe(tmp_path / str(number), init=str(init), lr=1e-30))
        body = {n: v for n, v in weights(init).items() if not n.startswith("classifier")}
        now = weights(tmp_path / str(number))
        assert_same_bits({n: now[n] for n in body}, body)


def test_weights_for_color_do_not_take_gray_images(tmp_path: Path) -> None:
    save_model(create_model("nfnet_pico", num_classes=5), tmp_path / "color.safetensors")
    init = {"init": str(tmp_path / "color.safetensors")}
    with pytest.raises(UserError, match="for images of 3 channels, but yours have 1; save them as"):
        fit(tiny_recipe(tmp_path / "run", **init))


def test_another_network_is_not_resumed(trained: Path) -> None:
    with pytest.raises(UserError, match="model: nfnet_pico → nf_resnet50"):
        fit(tiny_recipe(trained, warmup_epochs=0, base_lr=1.0, model="nf_resnet50", resume=True))


def test_calibration_scales_the_first_gains_by_the_images(tmp_path: Path) -> None:
    for name, calibrate in (("plain", False), ("calibrated", True)):
        fit(tiny_recipe(tmp_path / name, calibrate=calibrate, lr=1e-30))
    plain, calibrated = weights(tmp_path / "plain"), weights(tmp_path / "calibrated")
    gains = {name for name in plain if name.endswith(".gain")}
    assert all(float(plain[name].min()) == float(plain[name].max()) == 1.0 for name in gains)
    assert not any(float(calibrated[name].min()) == 1.0 for name in gains)
    assert max(float(calibrated[name].max()) for name in gains) > 2.0


def test_weights_of_a_file_are_not_calibrated(trained: Path, tmp_path: Path) -> None:
    init = str(trained / "model.safetensors")
    fit(tiny_recipe(tmp_path / "run", calibrate=True, init=init, lr=1e-30))
    assert_same_bits(weights(tmp_path / "run"), weights(trained))
