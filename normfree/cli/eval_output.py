"""What ``normfree eval`` found, for people and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normfree.cli.class_table import class_lines, confusion_lines

if TYPE_CHECKING:
    from normfree.inference import Evaluation
    from normfree.inference.class_scores import ClassScores, Confusion

_WHOLE = 1000  # classes up to which JSON has the confusion matrix
#: Metric → what it is called.
NAMES = {
    "top1": "accuracy",
    "top5": "top-5",
    "map": "mAP",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
}


@dataclass(frozen=True)
class Found:
    """The evaluation of a network.

    Args:
        data: how the source was called.
        result: its metrics.
        classes: of the source.
        confusion: empty for images with several labels each.
        size: side of the network's input, pixels.
        margin: how much larger than that an image was resized.
    """

    data: str
    result: Evaluation
    classes: Sequence[str]
    confusion: Confusion
    size: int
    margin: int

    @property
    def several(self) -> bool:
        """Whether an image may have several labels."""
        return self.result.scores is not None

    @property
    def outputs(self) -> list[str]:
        """Names of the network's outputs, which may be more than the classes."""
        extra = range(len(self.classes), self.confusion.outputs)
        return [*self.classes, *(f"output {index}" for index in extra)]

    def scores(self) -> ClassScores:
        """Precision, recall, F1 and support of each class."""
        from normfree.inference.class_scores import scores_of_counts
        from normfree.inference.several_labels import label_scores

        if self.result.scores is not None:
            return label_scores(self.result.scores)
        return scores_of_counts(self.confusion.counts, len(self.outputs))

    def further(self) -> dict[str, list[float]]:
        """What else is known of each class, by heading."""
        from normfree.inference.several_labels import average_precisions

        if self.result.scores is None:
            return {}
        return {"AP": average_precisions(self.result.scores).tolist()}

    def metrics(self) -> dict[str, float]:
        """The metrics that apply."""
        found = {name: value for name, value in self.result.metrics.items() if value is not None}
        if not self.several:
            found["balanced_accuracy"] = self.scores().balanced_accuracy
        return found

    def lines(self, *, everything: bool) -> Iterator[str]:
        """For people."""
        metrics = self.metrics()
        said = [f"{name} {metrics[key]:.2%}" for key, name in NAMES.items() if key in metrics]
        yield f"{self.data}: {', '.join(said)}, loss {metrics['loss']:.4f}"
        margin = f"a margin of {self.margin}" if self.margin else "no margin"
        yield f"at {self.size} pixels, with {margin} around the center crop"
        if not self.several:
            yield f"balanced accuracy, the mean recall: {metrics['balanced_accuracy']:.2%}"
        yield ""
        names, scores = self.outputs, self.scores()
        yield from class_lines(names, scores, self.further(), everything=everything)
        yield ""
        if not self.several:
            yield from confusion_lines(names, self.confusion.counts)
            yield ""

    def plain(self) -> dict[str, Any]:
        """For ``--json``; what is not finite becomes null."""
        from normfree.inference.class_scores import confusion_matrix

        names, scores, further = self.outputs, self.scores(), self.further()
        columns = {
            "precision": scores.precision.tolist(),
            "recall": scores.recall.tolist(),
            "f1": scores.f1.tolist(),
            **({"average_precision": further["AP"]} if further else {}),
        }
        classes = [
            {
                "class": name,
                **{key: _finite(values[index]) for key, values in columns.items()},
                "support": int(scores.support[index]),
            }
            for index, name in enumerate(names)
        ]
        found: dict[str, Any] = {
            "data": self.data,
            "images": self.result.images,
            "test_size": self.size,
            "test_margin": self.margin,
            **{name: _finite(value) for name, value in self.metrics().items()},
            "classes": classes,
        }
        if not self.several and len(names) <= _WHOLE:
            found["confusion_matrix"] = confusion_matrix(self.confusion.counts, len(names)).tolist()
        elif not self.several:
            pairs = sorted(self.confusion.counts.items())
            found["confusion"] = [[*pair, count] for pair, count in pairs]
        return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
