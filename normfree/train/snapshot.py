"""A copy of all that a run has to keep, which is written while the run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from normfree.optim.shards import local
from normfree.train.runtime import Runtime
from normfree.weights.checkpoint_directory import NUMBERED, TENSOR


class Snapshot(NamedTuple):
    """What this rank writes of a checkpoint.

    Attributes:
        step: steps done.
        plain: all that is no tensor, in JSON's types; the main rank writes it.
        tensors: name → tensor, or some of its rows, on the host.
    """

    step: int
    plain: dict[str, Any]
    tensors: dict[str, Tensor]


class Camera:
    """Takes snapshots, each into the memory of the one before: that must be written by then.

    With several ranks, PyTorch's planner of distributed checkpoints says which of them writes what:
    each tensor once, every rank about as many bytes as the others, sharded rows where they are.

    Args:
        runtime: the ranks.

    Example:
        >>> camera, w = Camera(Runtime(device="cpu")), torch.zeros(2)
        >>> snapshot = camera.take({"state": {"w": w}}, step=3)
        >>> w += 1
        >>> snapshot.plain["state"], snapshot.tensors
        ({'w': {'$tensor': 'state/w'}}, {'state/w': tensor([0., 0.])})
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._host: dict[str, Tensor] = {}
        self._plans: dict[tuple[str, ...], list[dict[str, int]]] = {}

    def take(self, content: dict[str, Any], *, step: int) -> Snapshot:
        """Copy what this rank writes.

        Args:
            content: tensors, numbers, strings, and dictionaries and lists of those; on all ranks
                the same names, but for tensors that only the main one has.
            step: steps done.
        """
        tensors: dict[str, Tensor] = {}
        plain = _plain(content, "", tensors)
        plan = self._plan(tensors)
        rows: dict[str, list[Any]] = {name: [] for name in tensors}
        for rank, starts in enumerate(plan):
            for name in rows.keys() & starts.keys():
                rows[name].append([shard_name(rank, len(plan)), starts[name]])
        described = {
            name: {"shape": list(x.shape), "rows": rows[name]} for name, x in tensors.items()
        }
        own = {name: self._copied(name, tensors[name]) for name in plan[self.runtime.rank]}
        if any(tensors[name].is_cuda for name in own):
            torch.cuda.synchronize()
        return Snapshot(step, {**plain, "tensors": described}, own)

    def _copied(self, name: str, tensor: Tensor) -> Tensor:
        source = local(tensor.detach())
        if name not in self._host or self._host[name].shape != source.shape:
            self._host[name] = torch.empty(
                source.shape, dtype=source.dtype, pin_memory=source.is_cuda
            )
        return self._host[name].copy_(source, non_blocking=True)

    def _plan(self, tensors: dict[str, Tensor]) -> list[dict[str, int]]:
        """By rank: tensor that it writes → its first row there. Made once, on all ranks."""
        if self.runtime.world == 1:
            return [dict.fromkeys(tensors, 0)]
        names = tuple(tensors)
        if names not in self._plans:
            self._plans[names] = _planned(tensors, self.runtime)
        return self._plans[names]


def shard_name(rank: int, world: int) -> str:
    """The file of a rank."""
    return f"shard-{rank:05d}-of-{world:05d}.safetensors"


def _planned(tensors: dict[str, Tensor], runtime: Runtime) -> list[dict[str, int]]:
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(tensors, is_coordinator=runtime.main)
    local_plans = runtime.gathered(planner.create_local_plan())
    plans = runtime.first(lambda: planner.create_global_plan(local_plans)[0])
    return [
        {item.index.fqn: _first_row(item) for item in plan.items if _has_rows(item)}
        for plan in plans
    ]


def _first_row(item: Any) -> int:
    offsets = tuple(item.tensor_data.chunk.offsets)
    assert not any(offsets[1:]), "rows are sharded, and nothing else"
    return int(offsets[0]) if offsets else 0


def _has_rows(item: Any) -> bool:
    """Of a few rows, some ranks have none; the first rank writes a tensor that is empty itself."""
    chunk = item.tensor_data.chunk
    return 0 not in chunk.sizes or (0 in item.tensor_data.size and not any(chunk.offsets))


def _plain(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value in JSON's types; its tensors are put aside."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, Mapping):
        inner = {
            str(key): _plain(item, f"{name}/{key}" if name else str(key), tensors)
            for key, item in value.items()
        }
        numbered = inner and all(type(key) is int for key in value)
        return {NUMBERED: inner} if numbered else inner
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}/{place}", tensors) for place, item in enumerate(value)]
    return value
