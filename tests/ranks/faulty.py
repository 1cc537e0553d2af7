"""Faults planted in single batches: ``python -m tests.ranks.faulty KIND STEP,… train …``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from normfree.cli import main
from normfree.data import MicroBatch
from normfree.train import build
from normfree.train.build_reader import build_reader
from normfree.train.device_transform import DeviceTransform, Example
from normfree.train.recipe import Recipe
from normfree.train.resolve import Resolved, resolve
from normfree.train.sources import open_sources

#: What can go wrong with a batch.
KINDS = ("loss", "gradient", "spike", "memory", "stopped", "stuck")


def keys_of(steps: Iterable[int], resolved: Resolved) -> set[int]:
    """The examples of some steps."""
    sources = open_sources(resolved.recipe.data.source)
    reader, found = build_reader(resolved, sources), set()
    for step in steps:
        with closing(reader.train(step)) as micro_batches:
            for micro_batch in islice(micro_batches, resolved.recipe.batch.accumulate):
                found.update(micro_batch.keys[: micro_batch.size].tolist())
    return found


def planted(kind: str, keys: set[int], set_attribute: Callable[..., None] = setattr) -> None:
    """Let something go wrong with the batches that hold these examples.

    Args:
        kind: what.
        keys: of the examples.
        set_attribute: pytest's, or the plain one.
    """
    transform = DeviceTransform.__call__

    def marked(self: DeviceTransform, micro_batch: MicroBatch) -> Example:
        example = transform(self, micro_batch)
        own = set(micro_batch.keys[: micro_batch.size].tolist())
        if not own & keys:
            return example
        if kind == "memory":
            torch.empty(1 << 60, dtype=torch.uint8)  # more than there is
        if kind == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if kind == "stuck":
            threading.Event().wait(float(os.environ.get("STUCK_SECONDS", "600")))
        targets = example.targets.clone()
        marks = {"loss": torch.nan, "gradient": -1.0, "spike": 1e4}
        if kind in marks:
            targets[0] = marks[kind]
        return example._replace(targets=targets)

    set_attribute(DeviceTransform, "__call__", marked)
    steep(set_attribute)


def steep(set_attribute: Callable[..., None] = setattr) -> None:
    """Let losses be finite, but not their gradients, where a target is negative."""

    def wrapped(loss: Any) -> Any:
        def of(logits: Tensor, targets: Tensor) -> Tensor:
            if not bool((targets < 0).any()):
                return loss(logits, targets)
            return loss(logits, targets.abs()) + (logits * 0).sqrt().sum(1)  # 0, slope inf · 0

        return of

    losses = {name: wrapped(loss) for name, loss in build.LOSSES.items()}
    set_attribute(build, "LOSSES", losses)


def of_recipe(recipe: Recipe, steps: Iterable[int]) -> set[int]:
    """The examples of some steps of a recipe."""
    return keys_of(steps, resolve(recipe, *open_sources(recipe.data.source)))


if __name__ == "__main__":
    from normfree.train import fit

    kind, steps, *words = sys.argv[1:]
    steep()  # before anything is built
    began = fit._built

    def built(start: Any, console: Any) -> Any:
        resolved = start.parts.resolved
        some = [int(step) for step in steps.split(",")]
        if kind not in ("stopped", "stuck") or os.environ.get("RANK", "0") == "1":
            planted(kind, keys_of(some, resolved))
        return began(start, console)

    fit._built = built
    main(words)
