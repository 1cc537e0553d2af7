"""The ranks of a run: processes that ``torchrun`` starts, and that train one network together."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from normfree.device import find_device
from normfree.errors import EndedElsewhere, UserError, one_line
from normfree.train.components.ranks import Ranks
from normfree.train.meeting import meet

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

_ENDED = "normfree/ended"  # key of the store: the rank that says why the run ends
_ASKED = "normfree/asked"  # how many ranks know who that is
_SIGNS = ("closed by peer", "reset by peer", "Timed out", "NCCL", "gloo")  # of a lost rank
_PATIENCE = 10.0  # seconds to find out whether another rank has said it, and until all have asked
_PAUSE = 0.02  # seconds between two looks at how many have


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What this process knows from its launcher.

    Args:
        rank: number of this process.
        world: number of processes.
        local_rank: number of this process on its machine.
        local_world: number of processes on this machine.
        elastic: whether the launcher starts the processes again if one is lost.

    >>> Launch.read({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    Launch(rank=3, world=4, local_rank=1, local_world=2, elastic=False)
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    elastic: bool = False

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Launch:
        """From the environment of ``torchrun``; a process of its own without one.

        Raises:
            UserError: a variable is missing or not a number.
        """
        elastic = _number(environment, "TORCHELASTIC_MAX_RESTARTS", 0) > 0
        if environment.get("WORLD_SIZE", "1") == "1":
            return cls(elastic=elastic)
        launch = cls(
            rank=_number(environment, "RANK"),
            world=_number(environment, "WORLD_SIZE"),
            local_rank=_number(environment, "LOCAL_RANK", 0),
            local_world=_number(environment, "LOCAL_WORLD_SIZE", 1),
            elastic=elastic,
        )
        if not 0 <= launch.rank < launch.world:
            raise UserError(
                f"RANK={launch.rank} is not one of WORLD_SIZE={launch.world} processes; start them "
                "with torchrun"
            )
        return launch


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = environment.get(name, default)
    try:
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        said = "missing" if value is None else f"{value!r:.20}"
        raise UserError(
            f"WORLD_SIZE asks for several processes, but {name} is {said}; start them with "
            "torchrun, or unset WORLD_SIZE to train in this process alone"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """This process among those that train one network; alone unless a launcher says otherwise.

    Every method that speaks of all ranks must be called on all of them, in the same order. Alone,
    none of them does anything.

    Args:
        device: where this rank computes.
        launch: what the launcher said.
        mesh: the devices of all ranks, in one dimension or, for ``hsdp``, in two; None alone.
        hosts: group for what is on the host, that no device waits for; None alone.
        writers: the same for what writes checkpoints while the ranks train; None alone.
        store: what all ranks can read, even when one of them is gone; None alone.

    >>> runtime = Runtime(device="cpu")
    >>> runtime.main, runtime.world, runtime.summed(torch.ones(2)), runtime.first(lambda: 7)
    (True, 1, tensor([1., 1.]), 7)
    """

    device: str
    launch: Launch = Launch()
    mesh: DeviceMesh | None = None
    hosts: ProcessGroup | None = None
    writers: ProcessGroup | None = None
    store: Store | None = None

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.launch.rank

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.launch.world

    @property
    def main(self) -> bool:
        """Whether this is the rank that prints and writes."""
        return self.rank == 0

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, the same bits on each."""
        if self.world == 1:
            return tensor
        import torch.distributed as dist

        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def least(self, value: int) -> int:
        """The smallest of the ranks' numbers."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        smallest = torch.tensor(value)
        dist.all_reduce(smallest, op=dist.ReduceOp.MIN, group=self.hosts)
        return int(smallest)

    def first(self, function: Callable[[], T]) -> T:
        """What the main rank finds, on all ranks; the others do not call the function."""
        if self.world == 1:
            return function()
        import torch.distributed as dist

        found = [function() if self.main else None]
        dist.broadcast_object_list(found, group=self.hosts)
        return found[0]  # type: ignore[return-value]

    def gathered(self, value: T, group: ProcessGroup | None = None) -> list[T]:
        """The ranks' values, by rank; over ``hosts``, or another group of all of them."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=group or self.hosts)
        return values

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.gathered(None)

    def speaks(self) -> bool:
        """Whether this rank is the first to end with an error, and so the one to say why."""
        store, mine, first = self.store, str(self.rank), list[str]()
        if store is None:
            return True
        keeps_store = self.main and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"

        def ask() -> None:
            with suppress(RuntimeError):
                first.append(store.compare_set(_ENDED, "", mine).decode())
                store.add(_ASKED, 1)
                while keeps_store and store.add(_ASKED, 0) < self.world:
                    time.sleep(_PAUSE)

        # The store's own time-out does not end a wait for a host whose link is down.
        asking = Thread(target=ask, daemon=True)
        asking.start()
        asking.join(_PATIENCE)
        return first in ([], [mine])  # without an answer, nobody else can say it


@contextmanager
def open_runtime(device: str, ranks: Ranks) -> Iterator[Runtime]:
    """The ranks of this run, connected until the block ends.

    Where the block fails on several ranks, one of them raises its error, and the others
    :class:`~normfree.errors.EndedElsewhere`.

    Args:
        device: as for ``--device``; each rank of a machine takes a GPU of its own.
        ranks: how the ranks share the work.

    Raises:
        UserError: the ranks cannot find each other, or lost each other.
    """
    launch = Launch.read(os.environ)
    if launch.world == 1:
        yield Runtime(device=find_device(device), launch=launch)
        return
    import torch.distributed as dist

    runtime = _connected(_own_device(device, launch), launch, ranks)
    try:
        yield runtime
    except BaseException as error:
        if isinstance(error, EndedElsewhere) or not runtime.speaks():
            raise EndedElsewhere(getattr(error, "exit_code", 1)) from None
        lost = _lost(error, runtime, ranks.timeout)
        if lost is None:
            raise
        raise lost from error
    dist.destroy_process_group()


def _connected(device: str, launch: Launch, ranks: Ranks) -> Runtime:
    """Find the other ranks."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.rendezvous import rendezvous

    kind, shape, names = device.partition(":")[0], *_mesh_of(launch, ranks)
    timeout = timedelta(seconds=ranks.timeout)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    try:
        found, _, _ = next(rendezvous("env://", timeout=timeout))
        found.set_timeout(timeout)
        store = meet(found, launch.rank, launch.world, timeout)
        dist.init_process_group(
            backend, store=store, rank=launch.rank, world_size=launch.world, timeout=timeout
        )
        mesh = init_device_mesh(kind, shape, mesh_dim_names=names)
        hosts, writers = (dist.new_group(backend="gloo", timeout=timeout) for _ in range(2))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"rank {launch.rank} of {launch.world} on {socket.gethostname()} cannot reach the "
            f"others at {where} ({one_line(error)}): see that all of them were started, and that "
            "the port is open between the machines"
        ) from error
    return Runtime(
        device=device, launch=launch, mesh=mesh, hosts=hosts, writers=writers, store=store
    )


def _mesh_of(launch: Launch, ranks: Ranks) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Shape of the mesh, and names of its dimensions."""
    if ranks.kind != "hsdp":
        return (launch.world,), ("shard" if ranks.kind == "fsdp" else "replicate",)
    shards = launch.local_world if ranks.shards is None else ranks.shards
    if launch.world % shards:
        raise UserError(
            f"--parallel hsdp shares the weights among {shards} processes, which do not divide the "
            f"{launch.world} of this run; choose --shards"
        )
    return (launch.world // shards, shards), ("replicate", "shard")


def _own_device(device: str, launch: Launch) -> str:
    """The device of this rank: on CUDA, the one with its number on the machine.

    Raises:
        UserError: the machine has fewer GPUs than ranks, or ranks cannot share the device.
    """
    kind, _, number = find_device(device).partition(":")
    if kind == "cpu":
        return kind
    if kind != "cuda":
        raise UserError(f"several processes train on --device cpu or cuda, not on {device}")
    if number:
        raise UserError(f"each process takes a GPU of its own: say --device cuda, not {device}")
    if launch.local_rank >= torch.cuda.device_count():
        raise UserError(
            f"{launch.local_world} processes were started on {socket.gethostname()}, which has "
            f"{torch.cuda.device_count()} GPUs: lower --nproc-per-node"
        )
    torch.cuda.set_device(launch.local_rank)
    return f"cuda:{launch.local_rank}"


def _lost(error: BaseException, runtime: Runtime, timeout: float) -> UserError | None:
    """The error for a person, if it is that another rank ended or cannot be reached."""
    from torch.distributed import DistError

    said = str(error)
    found = [sign for sign in _SIGNS if sign in said]
    if not isinstance(error, RuntimeError) or not (found or isinstance(error, DistError)):
        return None
    return UserError(
        f"rank {runtime.rank} of {runtime.world} on {socket.gethostname()} lost the others "
        f"({found[0] if found else one_line(error)}): one of them was killed, or did not answer "
        f"for {timeout:g} s (--rank-timeout); the checkpoints stay, go on with --resume"
    )
