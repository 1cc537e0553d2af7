"""One rank: python -m tests.ranks.worker FILE CASE:KIND …; the main one writes all outcomes."""

from __future__ import annotations

import dataclasses
import sys

import torch
from torch.distributed.device_mesh import init_device_mesh

from normfree.train.components import Ranks
from normfree.train.runtime import Runtime, open_runtime
from tests.ranks.cases import CASES, compute


def on_mesh(runtime: Runtime, kind: str) -> Runtime:
    """The same ranks in another mesh."""
    if kind == "hsdp":
        shape, names = (2, runtime.world // 2), ("replicate", "shard")
    else:
        shape, names = (runtime.world,), ("shard",)
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    return dataclasses.replace(runtime, mesh=mesh)


def main(path: str, *names: str) -> None:
    """Compute the cases one after the other."""
    outcomes = {}
    with open_runtime("cpu", Ranks(timeout=120)) as runtime:
        for name in names:
            case, kind = name.split(":")
            outcome = compute({**CASES[case], "parallel": kind}, on_mesh(runtime, kind))
            digests = runtime.gathered(outcome.digest)
            outcomes[name] = (outcome.state, outcome.metrics, digests)
        if runtime.main:
            torch.save(outcomes, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
