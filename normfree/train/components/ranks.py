"""How several processes train one network."""

from __future__ import annotations

from typing import Annotated, Literal

from normfree.schema import Field
from normfree.train.flags import Flag, component


@component
class Ranks:
    """What the processes of `torchrun` share; nothing of it matters to a single one."""

    kind: Annotated[Literal["ddp", "fsdp", "hsdp"], Flag("parallel")] = "ddp"
    """What each of the processes that `torchrun` starts holds. ddp: all weights; fsdp: its share of
    weights, momentum and average, which saves memory and takes more communication; hsdp: its share
    among --shards processes, and the same as every other such group."""
    shards: int | None = Field(default=None, gt=1)
    """Processes that share the weights with --parallel hsdp. None: those of a machine."""
    statistics: Annotated[Literal["replica", "synchronized"], Flag("batch_statistics")] = "replica"
    """What a batch-normalized network takes mean and variance from. replica: the images that a
    process computes at a time; synchronized: those that all processes do."""
    timeout: Annotated[float, Flag("rank_timeout")] = Field(default=600.0, gt=0, le=86400)
    """Seconds after which a process gives up waiting for the others."""
