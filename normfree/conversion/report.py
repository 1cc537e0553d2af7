"""What a conversion changed, what it left, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple


class Change(NamedTuple):
    """A layer or block that was converted.

    Attributes:
        name: its name in the original network.
        before: what it was.
        after: what it is now.
    """

    name: str
    before: str
    after: str


class Left(NamedTuple):
    """Something that one could have expected to be converted, and that was not.

    Attributes:
        name: its name in the network.
        kind: what it is.
        why: the reason.
    """

    name: str
    kind: str
    why: str


@dataclass
class Report:
    """Everything that a conversion changed and left; print it.

    Attributes:
        network: class of the network.
        changes: converted layers and blocks, in the order of execution.
        left: what was not converted, and why.
        batch_norms: names of the batch normalizations that remain.
        traced: whether the forward pass had to be rewritten, so that the network is a
            :class:`torch.fx.GraphModule`.

    Example:
        >>> report = Report("ResNet")
        >>> report.changed("conv1", "Conv2d", "WSConv2d")
        >>> report.leave("neck.norm", "LayerNorm", "does not depend on the batch")
        >>> print(report)
        ResNet: 1 Conv2d → WSConv2d
        left as they are:
          neck.norm (LayerNorm): does not depend on the batch
        no batch normalization remains
    """

    network: str
    changes: list[Change] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    batch_norms: list[str] = field(default_factory=list)
    traced: bool = False

    @property
    def complete(self) -> bool:
        """Whether no batch normalization remains."""
        return not self.batch_norms

    def changed(self, name: str, before: str, after: str) -> None:
        """Note a change."""
        self.changes.append(Change(name, before, after))

    def leave(self, name: str, kind: str, why: str) -> None:
        """Note what is left, once."""
        entry = Left(name, kind, why)
        if entry not in self.left:
            self.left.append(entry)

    def __str__(self) -> str:
        kinds = Counter(f"{before} → {after}" for _, before, after in self.changes)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        lines = [f"{self.network}: {counts or 'nothing converted'}"]
        if self.traced:
            lines.append("the forward pass is a traced graph now: it calls functions that change")
        alike: dict[tuple[str, str], list[str]] = {}
        for name, kind, why in self.left:
            alike.setdefault((kind, why), []).append(name)
        if alike:
            lines.append("left as they are:")
            lines += [f"  {_some(names)} ({kind}): {why}" for (kind, why), names in alike.items()]
        if self.complete:
            lines.append("no batch normalization remains")
        else:
            lines.append(f"batch normalizations that remain: {_some(self.batch_norms)}")
        return "\n".join(lines)


def _some(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
