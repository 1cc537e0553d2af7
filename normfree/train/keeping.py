"""Which checkpoints stay: the newest, the best, those of every n-th epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """What a checkpoint says of itself.

    Attributes:
        epoch: that was over with its step; None within an epoch.
        score: validation accuracy of its weights; None where they were not evaluated.
    """

    epoch: int | None = None
    score: float | None = None

    @classmethod
    def read(cls, value: Any) -> Mark:
        """From plain values of a file; nothing where they are something else.

        >>> Mark.read({"epoch": 3, "score": 0.5}), Mark.read(None)
        (Mark(epoch=3, score=0.5), Mark(epoch=None, score=None))
        """
        values = value if isinstance(value, dict) else {}
        epoch, score = values.get("epoch"), values.get("score")
        return cls(
            epoch if type(epoch) is int else None, score if isinstance(score, float) else None
        )


NO_MARK = Mark()


def unneeded(
    marks: Mapping[int, Mark], *, step: int, last: int, best: int = 0, epochs: int | None = None
) -> list[int]:
    """The checkpoints that no rule keeps.

    Those of later steps than the newest are damaged, or the run would have gone on from them: they
    stay until they are written again.

    Args:
        marks: step → what its checkpoint says of itself.
        step: of the newest.
        last: how many of the newest stay.
        best: how many of those with the best validation accuracy stay; of equal ones, the newer.
        epochs: those at the end of every so many epochs stay; None: no rule.

    >>> marks = {step: Mark(step // 10, score) for step, score in ((10, 0.5), (20, 0.9), (30, 0.7))}
    >>> unneeded(marks, step=30, last=1), unneeded(marks, step=30, last=1, best=1)
    ([10, 20], [10])
    >>> unneeded(marks, step=30, last=1, epochs=2)
    [10]
    """
    steps = sorted(done for done in marks if done <= step)
    scores = {done: score for done in steps if (score := marks[done].score) is not None}
    ranked = sorted(scores, key=lambda done: (scores[done], done))
    kept = {*steps[-last:], *ranked[len(ranked) - min(best, len(ranked)) :]}
    for done in steps:
        epoch = marks[done].epoch
        if epochs is not None and epoch is not None and epoch % epochs == 0:
            kept.add(done)
    return [done for done in steps if done not in kept]
