"""A record of the clipping in a step, kept on the device until it is read."""

from __future__ import annotations

from collections.abc import Container, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from normfree.optim.buckets import Bucket
from normfree.optim.shards import counts


class ClipRecord:
    """The scales that clipping applied to gradients, by parameter.

    Nothing is computed or synchronized until a value is read.

    Attributes:
        names: names of the clipped parameters.
        scales: for each parameter, the scales of its units, in (0, 1]; a unit with a scale below
            one was clipped.

    Example:
        >>> record = ClipRecord(["conv.weight"], [torch.tensor([[1.0], [0.25]])])
        >>> record.add(["conv.bias"], [torch.tensor(0.5)])
        >>> record.clipped_units, record.total_units
        (tensor(2), 3)
        >>> record.by_name()["conv.bias"]
        tensor(0.5000)
    """

    def __init__(
        self, names: Iterable[str] = (), scales: Iterable[Float[Tensor, "..."]] = ()
    ) -> None:
        self.names = list(names)
        self.scales = list(scales)
        self._flat: Tensor | None = None

    def add(self, names: Iterable[str], scales: Iterable[Float[Tensor, "..."]]) -> None:
        """Append the scales of more parameters."""
        self.names.extend(names)
        self.scales.extend(scales)
        self._flat = None

    def add_bucket(
        self, bucket: Bucket, scales: Iterable[Float[Tensor, "..."]], *, unitwise: bool
    ) -> None:
        """Append the scales of a bucket, but for those that another rank records.

        Args:
            bucket: the parameters.
            scales: of each, those of its units.
            unitwise: whether there is one norm per unit; else one per parameter.
        """
        for name, owner, scale in zip(bucket.names, bucket.owners, scales, strict=True):
            if counts(owner, unitwise=unitwise):
                self.add([name], [scale])

    def only(self, names: Container[str]) -> ClipRecord:
        """The record of some parameters."""
        some = [(name, scale) for name, scale in self.by_name().items() if name in names]
        return ClipRecord([name for name, _ in some], [scale for _, scale in some])

    def by_name(self) -> dict[str, Float[Tensor, "..."]]:
        """Parameter name → scales."""
        return dict(zip(self.names, self.scales, strict=True))

    @property
    def flat(self) -> Float[Tensor, " units"]:
        """The scales of all units in one vector, on the device of the first; made once."""
        if self._flat is None:
            device = self.scales[0].device if self.scales else None
            parts = (scale.view(-1) for scale in self.scales)
            self._flat = torch.cat(
                [part.to(device, non_blocking=True) for part in parts] or [torch.ones(0)]
            )
        return self._flat

    @property
    def clipped_units(self) -> Int[Tensor, ""]:
        """Number of clipped units, on the device of the first scales."""
        return (self.flat < 1).sum()

    @property
    def total_units(self) -> int:
        """Number of units eligible for clipping."""
        return sum(scale.numel() for scale in self.scales)
