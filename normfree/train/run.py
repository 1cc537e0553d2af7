"""A run: what the training loop works with, all of it built."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from normfree.data import BadImages, Batch, MicroBatch, Workers
from normfree.inference.evaluate import evaluate
from normfree.train.components import Loop
from normfree.train.engine import Engine
from normfree.train.health.guards import Guards
from normfree.train.metrics import MetricsFile
from normfree.train.progress import Progress
from normfree.train.run_files import RunFiles
from normfree.train.runtime import Runtime
from normfree.train.shared_reading import SharedReading
from normfree.train.span import Span
from normfree.train.state import TrainState
from normfree.train.step import TrainStep
from normfree.weights import load_model


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The images of a run, split by split.

    Attributes:
        train: first step → the micro-batches from there on, ``accumulate`` for each step.
        val: every validation image once.
        test: every test image once; None where there are none.
        bad_images: the images that could not be read.
        workers: the processes that read all of them; None where this one does.
        notes: what to say of how they are read.
    """

    train: Callable[[int], Generator[MicroBatch, None, None]]
    val: Callable[[], Iterator[Batch]]
    test: Callable[[], Iterator[Batch]] | None
    bad_images: BadImages
    workers: Workers | None = None
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of workers."""
        return 0 if self.workers is None else self.workers.count

    def close(self) -> None:
        """Stop the workers."""
        if self.workers is not None:
            self.workers.close()


@dataclass(kw_only=True)
class Run:
    """What the training loop works with.

    Attributes:
        span: how long the run is, and where its epochs end.
        accumulate: micro-batches of a step.
        loop: how often it reports, evaluates and saves.
        state: weights, optimizer, averages, counts.
        step: updates the state by one batch.
        reader: the images.
        compiles: whether the first step compiles.
        loss: name of the loss, for evaluation.
        files: where weights and checkpoints go.
        metrics: the open ``metrics.jsonl``.
        progress: what a person sees.
        engine: what ranks do together.
        guards: what watches over it.
    """

    span: Span
    accumulate: int
    compiles: bool
    loop: Loop
    state: TrainState
    step: TrainStep
    reader: Reader
    loss: str
    files: RunFiles
    metrics: MetricsFile
    progress: Progress
    engine: Engine
    guards: Guards

    @cached_property
    def reading(self) -> SharedReading:
        """What ranks tell each other of the images they read."""
        return SharedReading(self.runtime, self.reader.bad_images)

    @property
    def runtime(self) -> Runtime:
        """The ranks of the run."""
        return self.engine.runtime

    def validate(self) -> dict[str, Any]:
        """Metrics of the raw weights, ``val_top1``, and of the averaged ones, ``val_top1_ema``.

        Those that do not apply are left out.
        """
        models: dict[str, nn.Module] = {"": self.state.model}
        if self.state.ema is not None:
            models["_ema"] = self.state.ema.model
        found = self._evaluate(models, self.reader.val())
        return {f"val_{name}": value for name, value in found.items()}

    def test(self, batches: Iterator[Batch]) -> dict[str, Any]:
        """Metrics of the weights that validation chose, ``test_top1``."""
        device = self.step.transform.device
        self.runtime.barrier()  # the main rank has written them
        chosen = load_model(self.files.directory.best, device=device)
        found = self._evaluate({"": chosen}, batches)
        return {f"test_{name}": value for name, value in found.items()}

    def _evaluate(
        self, models: Mapping[str, nn.Module], batches: Iterator[Batch]
    ) -> dict[str, Any]:
        """Metrics by name and suffix of the model."""

        def add_up(sums: Tensor) -> Tensor:
            self.reading.settle()
            return self.runtime.summed(sums)

        with self.engine.gathered(models.values()):
            found = evaluate(
                models,
                self.guards.watchdog.through(self.reading.caught(batches), "evaluating"),
                self.step.transform.evaluation,
                self.loss,
                add_up=add_up,
                gather=self.runtime.gathered,
            )
        return {
            f"{name}{suffix}": value
            for suffix, evaluation in found.items()
            for name, value in evaluation.metrics.items()
            if value is not None
        }
