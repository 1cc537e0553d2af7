"""What a launcher tells, and what one process makes of the ranks that it is not one of."""

from __future__ import annotations

from threading import Event

import pytest
import torch
from torch.distributed import HashStore

from normfree.errors import UserError
from normfree.train.components import Ranks
from normfree.train.runtime import Launch, Runtime, _lost, _mesh_of, open_runtime

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


def test_the_launcher_is_read() -> None:
    launch = Launch.read({**TORCHRUN, "TORCHELASTIC_MAX_RESTARTS": "3"})
    assert launch == Launch(rank=5, world=8, local_rank=1, local_world=4, elastic=True)
    assert Launch.read({}) == Launch()
    assert Launch.read({"RANK": "0", "WORLD_SIZE": "1"}) == Launch()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": None}, "RANK is missing"),
        ({"RANK": "one"}, "RANK is 'one'"),
        ({"RANK": "8"}, "RANK=8 is not one of WORLD_SIZE=8"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE is 'many'"),
    ],
)
def test_an_environment_that_makes_no_sense_is_said(
    changes: dict[str, str | None], message: str
) -> None:
    environment = {k: v for k, v in {**TORCHRUN, **changes}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        Launch.read(environment)


@pytest.mark.parametrize(
    ("settings", "mesh"),
    [
        ({"kind": "ddp"}, ((8,), ("replicate",))),
        ({"kind": "fsdp"}, ((8,), ("shard",))),
        ({"kind": "hsdp"}, ((2, 4), ("replicate", "shard"))),  # the ranks of a machine
        ({"kind": "hsdp", "shards": 2}, ((4, 2), ("replicate", "shard"))),
    ],
)
def test_the_mesh_follows_from_the_ranks(settings: dict[str, object], mesh: object) -> None:
    assert _mesh_of(Launch.read(TORCHRUN), Ranks(**settings)) == mesh  # type: ignore[arg-type]


def test_shards_divide_the_ranks() -> None:
    with pytest.raises(UserError, match="3 processes, which do not divide the 8"):
        _mesh_of(Launch.read(TORCHRUN), Ranks(kind="hsdp", shards=3))


def test_alone_nothing_is_communicated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with open_runtime("cpu", Ranks()) as runtime:
        assert not torch.distributed.is_initialized()
        assert (runtime.main, runtime.gathered(3), runtime.least(4)) == (True, [3], 4)
        assert runtime.speaks()
        runtime.barrier()


def test_a_store_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Event()

    class Unreachable:
        def compare_set(self, *words: str) -> bytes:
            never.wait()
            raise RuntimeError("gone")

    monkeypatch.setattr("normfree.train.runtime._PATIENCE", 0.01)
    launch = Launch(rank=1, world=2)
    assert Runtime(device="cpu", launch=launch, store=Unreachable()).speaks()  # type: ignore[arg-type]
    never.set()


def test_only_the_first_rank_to_end_says_why() -> None:
    store = HashStore()
    ranks = [Runtime(device="cpu", launch=Launch(rank=r, world=2), store=store) for r in (1, 0)]
    assert [rank.speaks() for rank in ranks] == [True, False]


def test_the_rank_that_keeps_the_store_waits_for_the_others() -> None:
    store, others = HashStore(), []

    class Watched:
        compare_set = store.compare_set

        def add(self, key: str, amount: int) -> int:
            if amount == 0:  # the first rank looks who has asked, and then the other one does
                others.append(Runtime(device="cpu", launch=launch, store=store).speaks())
            return store.add(key, amount)

    launch = Launch(rank=1, world=2)
    first = Runtime(device="cpu", launch=Launch(rank=0, world=2), store=Watched())  # type: ignore[arg-type]
    assert first.speaks()
    assert others == [False]


def test_errors_of_one_process_are_its_own() -> None:
    with pytest.raises(UserError, match="mine"), open_runtime("cpu", Ranks()):
        raise UserError("mine")


def test_a_rank_says_what_it_lost() -> None:
    runtime = Runtime(device="cpu", launch=Launch(rank=1, world=2))
    error = _lost(RuntimeError("[pair.cc:1] Connection closed by peer [::1]:9"), runtime, 30.0)
    assert error is not None
    assert "rank 1 of 2" in str(error)
    assert "closed by peer" in str(error)
    assert "30 s" in str(error)
    assert _lost(RuntimeError("shapes do not match"), runtime, 30.0) is None
    assert _lost(ValueError("gloo"), runtime, 30.0) is None
