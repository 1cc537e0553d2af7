"""The fastest form within the tolerance is chosen; a fake clock says what is fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import normfree
from normfree.errors import UserError
from normfree.inference import (
    FORMS,
    Optimized,
    Predictor,
    export_model,
    export_optimized,
    open_exported,
    optimize,
)
from normfree.inference.forms import Example, Form
from normfree.inference.onnx_file import FORM
from normfree.weights import describe, save_model
from tests.unit.inference.test_forms import images, network

CARD = {"classes": list("abcdefg"), "mean": [127.0] * 3, "std": [60.0] * 3, "test_size": 9}


class Clock:
    """Time that passes only when a network computes."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake(nn.Module):
    """Logits of a network plus an error, after some seconds."""

    def __init__(self, model: nn.Module, clock: Clock, seconds: float, error: float) -> None:
        super().__init__()
        self.model, self.clock, self.seconds, self.error = model, clock, seconds, error

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += self.seconds
        logits = self.model(x)
        return logits + self.error * logits.abs().max()


Use = Callable[..., Optimized]


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Optimize among fake forms: name → (seconds, error), an exception or what is lacking."""

    def use(known_forms: dict[str, Any], /, **settings: Any) -> Optimized:
        clock = Clock()

        def fake(name: str, kind: Any) -> Form:
            def build(example: Example) -> nn.Module:
                if isinstance(kind, Exception):
                    raise kind
                return Fake(network(), clock, *kind)

            lack = kind if isinstance(kind, str) else ""
            return Form(name, "", build, lambda example: lack)

        trained = Form("trained", "", lambda example: example.model)
        known = {"trained": trained} | {
            name: fake(name, kind) for name, kind in known_forms.items()
        }
        monkeypatch.setattr("normfree.inference.forms.FORMS", known)
        model = Fake(network(), clock, 1.0, 0.0)
        return optimize(model, images(4), clock=clock, **settings)

    return use


def test_the_fastest_within_the_tolerance_is_chosen(choose: Use) -> None:
    forms = {"slow": (0.8, 0.0), "fast": (0.5, 1e-4), "rough": (0.4, 1e-2)}
    assert choose(forms).form == "fast"
    assert choose(forms, tolerance=0.1).form == "rough"
    assert choose(forms, tolerance=1e-5).form == "slow"
    assert choose({"slower": (1.5, 0.0)}).form == "trained"
    assert choose(forms, forms=["slow"]).form == "slow"


def test_the_table_has_every_candidate(choose: Use) -> None:
    found = choose(
        {"fast": (0.5, 1e-4), "rough": (0.4, 1e-2), "lost": "needs x: pip install x",
         "broken": RuntimeError("no\ncompiler"), "crawling": (9.0, 0.0)}
    )  # fmt: skip
    rows = {row.form: row for row in found.candidates}
    assert rows["trained"].seconds == rows["trained"].speedup == 1
    assert rows["fast"].speedup == pytest.approx(2)
    assert rows["fast"].error == pytest.approx(1e-4, rel=1e-2)
    assert rows["rough"].skipped == "its error is above 0.001"
    assert rows["lost"].skipped == "needs x: pip install x"
    assert rows["broken"].skipped == "no compiler"
    assert rows["crawling"].skipped == "more than 3 times slower than another form"
    assert all(rows[name].seconds is None for name in ("rough", "lost", "broken", "crawling"))
    text = str(found)
    assert "fast is the fastest for batches of 1, errors up to 0.001 of the largest logit" in text
    assert [line.split()[0] for line in text.splitlines()[1:7]] == list(rows)


def test_not_a_number_is_an_error(choose: Use) -> None:
    assert choose({"nan": (0.1, float("nan"))}).form == "trained"


def test_no_form_at_all_is_said(choose: Use) -> None:
    with pytest.raises(UserError, match="no form can be used: rough: its error is above"):
        choose({"rough": (0.1, 1.0)}, forms=["rough"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"seconds": 0.0}, "seconds must be positive"),
        ({"forms": ["foldde"]}, "did you mean folded"),
    ],
)
def test_bad_settings_are_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        optimize(network(), images(2), **settings)
    with pytest.raises(UserError, match=r"expected images \(n, c, h, w\)"):
        optimize(network(), images(2)[:0])


def test_an_optimized_predictor_predicts_the_same() -> None:
    model = network()
    card = describe(model, CARD)
    draw = np.random.default_rng(0)
    photographs = [draw.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(12)]
    want = Predictor(model, card).probabilities(photographs)
    predictor = Predictor(model, card)
    found = predictor.optimize(photographs, batch_size=4, seconds=0.05, forms=["prepacked"])
    assert (found.form, found.batch_size) == ("prepacked", 4)
    assert predictor.optimized is found
    assert predictor.model is found.network
    np.testing.assert_allclose(predictor.probabilities(photographs), want, atol=1e-5)
    with pytest.raises(UserError, match="at least 4 images; got 2"):
        predictor.optimize(photographs[:2])


def test_load_can_optimize(tmp_path: Path) -> None:
    model = network()
    save_model(model, tmp_path / "model.safetensors", card=describe(model, CARD))
    predictor = normfree.load(tmp_path / "model.safetensors", optimize=True)
    assert predictor.optimized is not None
    assert predictor.optimized.form in FORMS
    export_model(model, tmp_path / "model.onnx", CARD)
    found = normfree.load(tmp_path / "model.onnx", optimize=True).optimized
    assert found is not None
    rows = {row.form: row for row in found.candidates}
    assert rows["folded"].skipped == "needs the weights: this file is an exported graph"
    assert rows["onnx"].error is not None
    assert rows["onnx"].error < 1e-6


@pytest.mark.parametrize("form", ["channels_last", "bfloat16", "onnx", "onnx_int8", "openvino"])
@torch.no_grad()
def test_a_file_holds_the_form_that_was_chosen(form: str, tmp_path: Path) -> None:
    import onnx

    model, x = network(), images(32)
    if lack := FORMS[form].lacks(Example(model, x, x)):
        pytest.skip(lack)
    path = tmp_path / f"model{FORMS[form].file}"
    found = export_optimized(model, path, CARD, x, tolerance=0.3, seconds=0.05, forms=[form])
    assert found.form == form
    network_again, card = open_exported(path, trusted=True)
    assert card.classes == tuple("abcdefg")
    want = model(x)
    error = (network_again(x) - want).abs().max() / want.abs().max()
    limits = {"bfloat16": (1e-4, 0.05), "onnx_int8": (1e-4, 0.3)}
    low, high = limits.get(form, (0, 1e-5))
    assert low <= error <= high
    if path.suffix == ".onnx":
        held = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert held[FORM] == form
        kind = "OpenVinoNetwork" if form == "openvino" else "OnnxNetwork"
        assert type(network_again).__name__ == kind


def test_files_without_forms_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"only \.onnx and \.pt2 files have forms"):
        export_optimized(network(), tmp_path / "model.safetensors", CARD)
    with pytest.raises(UserError, match=r"\.pt2 files hold the forms folded, channels_last, bf"):
        export_optimized(network(), tmp_path / "model.pt2", CARD, forms=["onnx"])
