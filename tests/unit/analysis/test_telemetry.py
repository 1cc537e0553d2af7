from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normfree.analysis.reading import COLUMNS, Part, Reading, merged, stage_of
from normfree.analysis.telemetry import Telemetry
from normfree.analysis.telemetry_file import TelemetryFile, read_telemetry
from normfree.errors import UserError
from normfree.optim import AGC, AGCSGD, ClipRecord, GlobalNorm, param_groups
from normfree.optim.functional import clip_scale, unitwise_norm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def gradient_of(model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    (50 * model(torch.linspace(-1, 1, 24).view(4, 6)).square().sum()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_as_the_equations_say(
    reading: Reading, before: dict[str, Tensor], grads: dict[str, Tensor], model: nn.Module
) -> None:
    for name, weight in model.named_parameters():
        row, old, grad = reading.of(name), before[name], grads[name]
        ratio = unitwise_norm(grad) / unitwise_norm(old).clamp(min=1e-3)
        assert row["ratio_max"] == pytest.approx(float(ratio.max()), rel=1e-4)
        assert row["ratio_p10"] <= row["ratio_p50"] <= row["ratio_p90"] <= row["ratio_max"]
        assert row["gradient"] == pytest.approx(float(grad.norm()), rel=1e-4)
        assert row["weight"] == pytest.approx(float(old.norm()), rel=1e-5)
        assert row["update"] == pytest.approx(float((old - weight.detach()).norm()), rel=1e-4)


@pytest.mark.parametrize("in_backward", [False, True])
def test_the_papers_optimizer(in_backward: bool) -> None:
    model = network()
    grads = gradient_of(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = AGCSGD(param_groups(model, classifier="2", clipping=0.05), lr=0.1)
    telemetry = Telemetry(optimizer, every=1)
    with telemetry.watching(0):
        if in_backward:
            model.zero_grad()
            with optimizer.step_in_backward():
                (50 * model(torch.linspace(-1, 1, 24).view(4, 6)).square().sum()).backward()
        else:
            optimizer.step()
    telemetry.add(optimizer.clip_record)
    reading = telemetry.read()
    assert_as_the_equations_say(reading, before, grads, model)
    clipped = clip_scale(grads["0.weight"], before["0.weight"], 0.05) < 1
    assert 0 < clipped.float().mean() <= 1
    assert reading.of("0.weight")["clipped"] == pytest.approx(float(clipped.float().mean()))
    assert np.isnan(reading.of("2.weight")["clipped"])  # the classifier is not clipped
    assert dict(zip(telemetry.layers, telemetry.thresholds, strict=True))["2.weight"] is None
    assert optimizer.observe is None


@pytest.mark.parametrize("clip", [AGC(clipping=0.05), GlobalNorm(max_norm=0.1)])
def test_another_optimizer_is_seen_before_clipping(clip: AGC | GlobalNorm) -> None:
    model = network()
    grads = gradient_of(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(param_groups(model, classifier=None), lr=0.01)
    telemetry = Telemetry(optimizer, every=1)
    with telemetry.watching(0):
        record = clip.clip_(optimizer.param_groups)
        optimizer.step()
    telemetry.add(record)
    assert_as_the_equations_say(telemetry.read(), before, grads, model)


def test_the_share_covers_every_step_since_the_last_reading() -> None:
    optimizer = AGCSGD([torch.nn.Parameter(torch.ones(2, 2))])
    telemetry = Telemetry(optimizer, every=4)
    for clipped in (0, 1, 2, 1):
        scale = torch.tensor([[0.5 if row < clipped else 1.0] for row in range(2)])
        telemetry.add(ClipRecord(["0.0"], [scale]))
    reading = telemetry.read()
    assert reading.steps == 4
    assert reading.of("0.0")["clipped"] == 0.5
    assert telemetry.read().steps == 0


def test_nothing_waits_for_the_device_before_a_reading() -> None:
    """A meta tensor has no values: whatever would wait for one fails."""
    with torch.device("meta"):
        model = network()
    optimizer = torch.optim.SGD(param_groups(model, classifier=None), lr=0.1)
    telemetry = Telemetry(optimizer, every=1)
    for p in model.parameters():
        p.grad = torch.empty_like(p)
    with telemetry.watching(0):
        optimizer.step()
    telemetry.add(ClipRecord(["0.weight"], [torch.empty(8, 1, device="meta")]))
    with pytest.raises(NotImplementedError):
        telemetry.read()


def test_rows_of_several_processes_make_one_reading() -> None:
    def part(w: float, g: float, *, split: bool) -> Part:
        norms = (np.array([w]), np.array([g]), 1.0, split)
        return Part(steps=2, clipped={"w": 1}, units={"w": 1}, norms={"w": norms})

    apart = merged([part(3, 3, split=True), part(4, 4, split=True)], ["w"], 1e-3).of("w")
    assert (apart["gradient"], apart["weight"]) == (5, 5)
    assert apart["ratio_p10"] == apart["ratio_max"] == 1
    assert apart["update"] == pytest.approx(2**0.5)
    rows = merged([part(1, 1, split=False), part(1, 3, split=False)], ["w"], 1e-3).of("w")
    assert (rows["clipped"], rows["ratio_p10"], rows["ratio_max"]) == (0.5, 1, 3)


def reading(value: float) -> Reading:
    return Reading(("a", "b"), np.full((2, len(COLUMNS)), value, np.float32), steps=20)


def written(path: Path) -> Path:
    file = TelemetryFile(path, ("a", "b"), (0.01, None))
    for step in (20, 40, 60):
        file.write(step, reading(step))
    file.close()
    return path


def test_a_file_comes_back(tmp_path: Path) -> None:
    history = read_telemetry(written(tmp_path / "telemetry.bin"))
    assert history.layers == ("a", "b")
    assert history.thresholds == (0.01, None)
    assert history.steps.tolist() == [20, 40, 60]
    assert history.column("clipped").tolist() == [[20, 20], [40, 40], [60, 60]]


def test_half_a_record_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "telemetry.bin")
    path.write_bytes(path.read_bytes()[:-5])
    assert read_telemetry(path).steps.tolist() == [20, 40]


def test_a_resumed_run_goes_on_from_its_step(tmp_path: Path) -> None:
    path = written(tmp_path / "telemetry.bin")
    file = TelemetryFile(path, ("a", "b"), (0.01, None), after=40)
    file.write(50, reading(5))
    file.close()
    assert read_telemetry(path).steps.tolist() == [20, 40, 50]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"something else\n{}\n",
        b"normfree telemetry 1\n",
        b"normfree telemetry 1\n[]\n",
        b"normfree telemetry 1\n{\n",
        b'normfree telemetry 1\n{"layers": ["a"], "thresholds": [], "columns": []}\n',
    ],
)
def test_a_damaged_file_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "telemetry.bin").write_bytes(content)
    with pytest.raises(UserError, match="is not the telemetry of a run"):
        read_telemetry(tmp_path / "telemetry.bin")


def test_stages() -> None:
    names = ["stem.0.weight", "stages.1.0.conv0.weight", "layer3.1.bn1.bias", "classifier.weight"]
    assert [stage_of(name) for name in names] == ["stem", "stages.1", "layer3", "classifier"]
