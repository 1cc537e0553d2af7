from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from normfree.errors import UserError
from normfree.train.components import Loop
from normfree.train.trackers import trackers

LINE = {"kind": "epoch", "step": 3, "epoch": 1, "val_top1": 0.5, "val_loss": None}


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=rf"pip install 'normfree\[{name}\]'"):
        trackers(Loop(**{name: True}), tmp_path, {}, 0)


def test_nothing_is_loaded_that_nobody_asked_for(tmp_path: Path) -> None:
    assert trackers(Loop(), tmp_path, {}, 0) == []
    assert "wandb" not in sys.modules


def test_wandb_gets_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, Any]] = []
    run = SimpleNamespace(log=logged.append, finish=lambda: logged.append({}))
    said: dict[str, Any] = {}

    def init(**settings: Any) -> SimpleNamespace:
        said.update(settings)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    (tracker,) = trackers(Loop(wandb=True), tmp_path / "run 1", {"seed": 0}, 0)
    tracker.write(**LINE)
    tracker.close()
    assert (said["id"], said["config"], said["resume"]) == ("run-1", {"seed": 0}, "allow")
    assert logged == [{"epoch/epoch": 1, "epoch/val_top1": 0.5, "step": 3}, {}]


def test_tensorboard_gets_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, directory: str, purge_step: int | None) -> None:
            calls.append((directory, purge_step))

        def add_scalar(self, *scalar: Any) -> None:
            calls.append(scalar)

        def flush(self) -> None:
            calls.append(("flush",))

        def close(self) -> None:
            calls.append(("close",))

    fake = SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    (tracker,) = trackers(Loop(tensorboard=True), tmp_path, {}, 2)
    tracker.write(**LINE)
    tracker.sync()
    tracker.close()
    assert calls == [
        (str(tmp_path / "tensorboard"), 3),
        ("epoch/epoch", 1, 3),
        ("epoch/val_top1", 0.5, 3),
        ("flush",),
        ("close",),
    ]
