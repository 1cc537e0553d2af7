"""A run: its configuration, data, state and files, put together."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from normfree.data import BadImages, Batch, MicroBatch, Source, eval_batches, train_batches
from normfree.train.device_transform import DeviceTransform
from normfree.train.inputs import eval_transform, make_plan, train_transform
from normfree.train.metrics import MetricsFile
from normfree.train.progress import Progress
from normfree.train.resolve import Resolved
from normfree.train.run_dir import RunDirectory
from normfree.train.state import TrainState


@dataclass
class Run:
    """What the training loop works with.

    Attributes:
        resolved: recipe and derived values.
        directory: where the files go.
        train: training images.
        test: test images.
        transform: the device stage, from micro-batches to the network's inputs.
        state: weights, optimizer, averages, counts.
        metrics: the open ``metrics.jsonl``.
        progress: what a person sees.
        bad_images: the images that could not be read.
    """

    resolved: Resolved
    directory: RunDirectory
    train: Source
    test: Source
    transform: DeviceTransform
    state: TrainState
    metrics: MetricsFile
    progress: Progress
    bad_images: BadImages = field(default_factory=BadImages)

    def micro_batches(self) -> Generator[MicroBatch, None, None]:
        """The micro-batches that are still to come, ``accumulate`` for each step."""
        recipe = self.resolved.recipe
        yield from train_batches(
            self.train,
            train_transform(self.resolved, self.train),
            make_plan(recipe, len(self.train)),
            start=self.state.step,
            stop=self.resolved.total_steps,
            workers=recipe.workers,
            on_bad_image=recipe.on_bad_image,
            bad_images=self.bad_images,
        )

    def test_batches(self) -> Iterator[Batch]:
        """Every test image once, in batches as large as the network is given in training."""
        recipe = self.resolved.recipe
        return eval_batches(
            self.test,
            eval_transform(self.resolved, self.test),
            max(1, recipe.batch_size // recipe.accumulate),
            workers=recipe.workers,
            on_bad_image=recipe.on_bad_image,
            bad_images=self.bad_images,
        )
