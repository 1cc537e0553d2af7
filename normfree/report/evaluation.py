"""What a network got wrong: counts of every pair of classes, and the images it erred on most."""

from __future__ import annotations

import base64
import heapq
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from normfree.analysis.signal import BlockSignal, signal_propagation
from normfree.atomic import write_atomic
from normfree.data import Batch
from normfree.errors import UserError
from normfree.inference.evaluate import Answers, evaluate
from normfree.nn import ResidualBlock
from normfree.schema import Field, from_plain, record, to_plain

WORST, PAIRS, PER_PAIR = 24, 8, 3  # images that are shown
_KEPT = 600  # small images of pairs that are in memory until it is known which are shown
_SIDE = 96  # pixels of a small image
_SIGNAL_IMAGES = 32
_LARGEST = 32 << 20  # bytes of the file

Index = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@record
class Example:
    """An image that was classified wrongly, or nearly so."""

    classes: tuple[Index, ...]
    """Its classes."""
    answer: Index
    """The class with the largest logit."""
    probability: Share
    """Of that answer."""
    loss: float
    """Without label smoothing, nats."""
    jpeg: Annotated[str, Field(max_length=60_000, pattern=r"^[A-Za-z0-9+/=]*$")]
    """The image, base64."""


@record
class Signal:
    """The signal after one residual block; see :class:`normfree.analysis.BlockSignal`."""

    name: str
    expected: float | None
    variance: float
    mean_square: float
    branch_variance: float


@record
class EvaluationFile:
    """The evaluation of a network on one split, as ``evaluation.json`` holds it."""

    split: str
    images: Index
    classes: tuple[str, ...]
    confusion: tuple[tuple[Index, Index, Index], ...]
    """Class, answer and how often; empty where an image may have several classes."""
    worst: tuple[Example, ...]
    """By loss."""
    confused: tuple[Example, ...]
    """Of the pairs of classes that were confused most."""
    signal: tuple[Signal, ...] = ()


def read_evaluation(path: Path) -> EvaluationFile:
    """What :func:`write_evaluation` wrote.

    Raises:
        UserError: it is damaged, or not one.
    """
    import json

    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        found = from_plain(EvaluationFile, json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, UserError) as error:
        raise UserError(f"{path} is not the evaluation of a run: {error}") from None
    classes = len(found.classes)
    shown = [c for e in (*found.worst, *found.confused) for c in (*e.classes, e.answer)]
    if any(c >= classes for c in shown) or any(max(t, a) >= classes for t, a, _ in found.confusion):
        raise UserError(f"{path} is not the evaluation of a run: it speaks of unknown classes")
    return found


def write_evaluation(path: Path, found: EvaluationFile) -> None:
    """Write an evaluation; after a crash the file is whole or absent."""
    import json

    write_atomic(path, json.dumps(to_plain(found), allow_nan=False).encode())


def evaluation_of(
    model: nn.Module,
    batches: Iterable[Batch],
    prepare: Callable[[Batch], tuple[Tensor, Tensor]],
    *,
    classes: Sequence[str],
    loss: str = "softmax",
    split: str = "val",
    gather: Callable[[Mistakes], list[Mistakes]] = lambda mistakes: [mistakes],
) -> EvaluationFile:
    """Evaluate a network once more, and keep what it got wrong.

    Args:
        model: the network.
        batches: every image once, or this process's part of them.
        prepare: a batch → images for the network, and labels.
        classes: their names.
        loss: a key of :data:`normfree.nn.loss.LOSSES`.
        split: what the images are called.
        gather: this process's mistakes → those of all.
    """
    mistakes = Mistakes()
    seen: list[Tensor] = []

    def remembered(batch: Batch) -> tuple[Tensor, Tensor]:
        mistakes.pixels = batch.images
        x, labels = prepare(batch)
        if not seen:
            seen.append(x[:_SIGNAL_IMAGES])
        return x, labels

    metrics = {"mistakes": mistakes.see}
    if seen_any := list(_first_of(batches)):
        model_only = {"": model}
        evaluate(model_only, seen_any[0], remembered, loss, metrics, split_metrics={})
    mistakes.pixels = None
    signal = [_plain(one) for one in _signal(model, seen[0])] if seen else []
    return _joined(gather(mistakes), classes, split, signal)


def _first_of(batches: Iterable[Batch]) -> Iterable[Iterable[Batch]]:
    """The batches, unless there are none."""
    from itertools import chain

    iterator = iter(batches)
    for first in iterator:
        yield chain([first], iterator)
        return


@dataclass
class Mistakes:
    """What was found so far, in the memory of the host.

    Attributes:
        images: how many were seen.
        counts: (class, answer) → how often.
        worst: the largest losses, a heap.
        pairs: (class, answer) → some of its images.
        pixels: of the batch that is being evaluated.
    """

    images: int = 0
    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    worst: list[tuple[float, int, Example]] = field(default_factory=list)
    pairs: dict[tuple[int, int], list[Example]] = field(default_factory=dict)
    pixels: Tensor | None = None

    def see(self, answers: Answers) -> None:
        """A metric that adds nothing up, see :data:`normfree.inference.METRICS`."""
        several = answers.labels.ndim == 2
        logits = answers.logits.float()
        shares = logits.sigmoid() if several else logits.softmax(1)
        best, answer = (x.tolist() for x in shares.max(1))
        losses, labels = answers.losses.float().tolist(), answers.labels.tolist()
        for row, (label, given, loss) in enumerate(zip(labels, answer, losses, strict=True)):
            own = tuple(np.flatnonzero(label).tolist()) if several else (label,)
            if not several:
                self.counts[label, given] += 1
            if not np.isfinite(loss) or not np.isfinite(best[row]):
                continue
            pair = (own[0] if own else given, given)
            self._keep(row, own, pair, best[row], loss, wrong=given not in own)
        self.images += len(labels)

    def _keep(
        self,
        row: int,
        own: tuple[int, ...],
        pair: tuple[int, int],
        probability: float,
        loss: float,
        *,
        wrong: bool,
    ) -> None:
        """Keep an image if it may be shown."""
        bad = len(self.worst) < WORST or loss > self.worst[0][0]
        known = self.pairs.get(pair, [])
        kept = sum(map(len, self.pairs.values())) if wrong else 0
        confused = wrong and len(own) == 1 and len(known) < PER_PAIR and kept < _KEPT
        if not (bad or confused):
            return
        assert self.pixels is not None
        share = min(max(probability, 0.0), 1.0)
        example = Example(
            classes=own,
            answer=pair[1],
            probability=share,
            loss=loss,
            jpeg=_jpeg(self.pixels[row]),
        )
        if bad:
            push = heapq.heappush if len(self.worst) < WORST else heapq.heapreplace
            push(self.worst, (loss, self.images + row, example))
        if confused:
            self.pairs.setdefault(pair, []).append(example)


def _joined(
    parts: Sequence[Mistakes], classes: Sequence[str], split: str, signal: Sequence[Signal]
) -> EvaluationFile:
    counts: Counter[tuple[int, int]] = sum((part.counts for part in parts), Counter())
    worst = sorted((one for part in parts for one in part.worst), key=lambda one: -one[0])
    wrong = [pair for pair, _ in counts.most_common() if pair[0] != pair[1]][:PAIRS]
    shown = [[e for part in parts for e in part.pairs.get(pair, [])][:PER_PAIR] for pair in wrong]
    return EvaluationFile(
        split=split,
        images=sum(part.images for part in parts),
        classes=tuple(classes),
        confusion=tuple((*pair, count) for pair, count in sorted(counts.items())),
        worst=tuple(example for *_, example in worst[:WORST]),
        confused=tuple(example for some in shown for example in some),
        signal=tuple(signal),
    )


def _jpeg(pixels: Tensor) -> str:
    """A small image, from pixel values between 0 and 255."""
    values = pixels.detach().float().clamp(0, 255).round().to(torch.uint8).cpu().numpy()
    channels = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
    image = Image.fromarray(np.ascontiguousarray(channels.transpose(1, 2, 0)))
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE))
    else:
        times = max(1, _SIDE // max(image.size))
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return base64.b64encode(file.getvalue()).decode()


def _signal(model: nn.Module, x: Tensor) -> list[BlockSignal]:
    blocks = any(isinstance(module, ResidualBlock) for module in model.modules())
    found = signal_propagation(model, x) if blocks else []
    return [one for one in found if np.isfinite([*one[2:]]).all()]


def _plain(signal: BlockSignal) -> Signal:
    return Signal(**signal._asdict())
