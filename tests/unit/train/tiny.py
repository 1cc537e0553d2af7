"""A recipe that trains in a second, and ways to look at what it made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from normfree.train.checkpoint import list_checkpoints, read_checkpoint
from normfree.train.components import Data, Network
from normfree.train.metrics import TIMINGS
from normfree.train.recipe import Recipe


def tiny_recipe(out: Path, /, **changes: Any) -> Recipe:
    """Eight steps over three epochs: 64 images in batches of 24, so batches straddle epochs."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "data": "synthetic:64x8x1x5",
        "model": "nfnet_pico",
        "epochs": 3,
        "batch_size": 24,
        "warmup_epochs": 0.5,
        "augment": "shift_flip",
        "shift_padding": 1,
        "log_every": 2,
        "checkpoint_every": 1,
        "keep_checkpoints": 100,
        "device": "cpu",
        "out": out,
    }
    base = Recipe(data=Data(source="digits"), model=Network(name="nfnet_pico"))
    return base.override(**settings).override(**changes)


def final_state(run: Path) -> dict[str, Any]:
    """All tensors and numbers of the newest checkpoint, by dotted name."""
    return flat(read_checkpoint(list_checkpoints(run / "checkpoints")[-1])["state"])


def remove(checkpoint: Path) -> None:
    """As if it had never been written."""
    shutil.rmtree(checkpoint) if checkpoint.is_dir() else checkpoint.unlink()


def damage(checkpoint: Path, name: str = "shard-00000-of-00001.safetensors") -> None:
    """Cut off half of a file."""
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[: len(content) // 2])


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries and lists as one dictionary."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return {name: value}
    return {k: v for key, item in items for k, v in flat(item, f"{name}.{key}").items()}


def assert_same_bits(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Equal keys, equal bits."""
    assert a.keys() == b.keys()
    different = [name for name in a if not _same(a[name], b[name])]
    assert different == []


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def timeless_metrics(run: Path) -> list[dict[str, Any]]:
    """The metrics without what says how long something took."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines]
