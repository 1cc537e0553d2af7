"""``normfree bench optim``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from normfree.cli.options import parse
from normfree.cli.threads import torch_threads
from normfree.errors import UsageError
from normfree.schema import record

if TYPE_CHECKING:
    from torch import Tensor

    from normfree.analysis.latency import Latency

#: What the others are compared with: torch's SGD, and the norms that it would need to clip.
BASELINE = "torch SGD foreach + norms"


@record
class Options:
    """Time of an optimizer step on this machine: AGCSGD beside torch's SGD.

    torch's SGD does not clip, so the norms that clipping needs (per unit, of parameters and
    gradients) are computed beside it: that is the baseline. Parameters and gradients have the
    shapes of a network and random values. The contenders are interleaved, so machine noise affects
    all of them equally.
    """

    model: str = "nfnet_f0"
    """Name of the network whose parameters are updated."""
    largest_axis: int | None = None
    """Cut axes to this length, so that tensors are small and calls dominate. None: as they are."""
    threads: int | None = None
    """Processor cores to use. None: all."""
    rounds: int = 20
    """Times that each is timed."""
    weights: bool = False
    """Instead, all that happens to weights in a step, beside a copy of the bytes it touches."""
    json: Path | None = None
    """Write the numbers, and where they were measured, to this file."""


def run(words: Sequence[str]) -> None:
    """Measure: ``normfree bench optim [--model NAME] [--weights] [--json FILE]``."""
    options = parse(Options, words, prog="normfree bench optim")
    _check(options)

    from normfree.analysis.environment import environment

    with torch_threads(options.threads):
        tensors, rows = (_measure_weights if options.weights else _measure)(options)
        where = environment()
    Console().print(_table(rows))
    if options.json is not None:
        settings = {"model": options.model, "largest_axis": options.largest_axis}
        found = {"benchmark": "optim", **where, **settings, **tensors, "results": rows}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _check(options: Options) -> None:
    """Refuse what cannot be measured before anything is."""
    from normfree.models import model_config

    for name, least in (("largest_axis", 1), ("rounds", 2)):
        value = getattr(options, name)
        if value is not None and value < least:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} must be at least {least}, not {value}")
    model_config(options.model)


def _measure(options: Options) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """How many tensors and elements there are, and a row for each contender."""
    from normfree.analysis.latency import compare_latency

    groups = _groups(options.model, options.largest_axis)
    params = [param for group in groups for param in group["params"]]
    steps = _steps(groups, params)
    for step in steps.values():
        step()  # the first step makes the momentum buffers
    operations = {name: dispatched_operations(step) for name, step in steps.items()}
    latencies = compare_latency(steps, rounds=options.rounds)
    elements = sum(param.numel() for param in params)
    return {"tensors": len(params), "elements": elements}, _rows(latencies, operations, BASELINE)


def _rows(
    latencies: dict[str, Latency], operations: dict[str, int], baseline: str
) -> list[dict[str, Any]]:
    return [
        {
            "optimizer": name,
            "operations": operations[name],
            "cost": latency.median / latencies[baseline].median,
            "seconds": asdict(latency),
        }
        for name, latency in latencies.items()
    ]


def _measure_weights(options: Options) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """How much there is to touch, and a row for each part of the work."""
    import torch

    from normfree.analysis.latency import compare_latency
    from normfree.cli.weight_work import COPY, weight_work
    from normfree.models import build_model
    from normfree.nn import WSConv2d

    with torch.device("meta"):
        modules = build_model(options.model).named_modules()
    standardized = {f"{name}.weight" for name, layer in modules if isinstance(layer, WSConv2d)}
    groups = _groups(options.model, options.largest_axis)
    sizes, calls = weight_work(groups, standardized)
    for call in calls.values():
        call()
    operations = {name: dispatched_operations(call) for name, call in calls.items()}
    latencies = compare_latency(calls, rounds=options.rounds)
    tensors = sum(len(group["params"]) for group in groups)
    found = {"tensors": tensors, "standardized": len(standardized)}
    found |= {f"bytes_{part}": size for part, size in sizes.items()}
    return found, _rows(latencies, operations, COPY)


def _groups(model: str, largest_axis: int | None) -> list[dict[str, Any]]:
    """The groups of a network, with random parameters and gradients."""
    import torch

    from normfree.models import build_model
    from normfree.optim import param_groups

    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        groups = param_groups(build_model(model), weight_decay=2e-5, clipping=0.01)

    def random(like: Tensor) -> Tensor:
        shape = [min(length, largest_axis or length) for length in like.shape]
        param = torch.nn.Parameter(torch.randn(shape, generator=generator))
        param.grad = 0.01 * torch.randn(shape, generator=generator)
        return param

    return [{**group, "params": [random(p) for p in group["params"]]} for group in groups]


def _steps(groups: list[dict[str, Any]], params: Sequence[Tensor]) -> dict[str, Callable[[], None]]:
    """Contender → one step. Rates are zero, so that all find the same parameters."""
    import torch

    from normfree.optim import AGCSGD

    def ours(backend: str) -> Callable[[], None]:
        optimizer = AGCSGD(_copied(groups), lr=0.0, backend=backend)

        def step() -> None:
            optimizer.step()
            _ = optimizer.clipped_units  # telemetry is part of every training step

        return step

    def theirs(**how: bool) -> Callable[[], object]:
        return torch.optim.SGD(_copied(groups), lr=0.0, momentum=0.9, nesterov=True, **how).step

    foreach, fused = theirs(foreach=True), theirs(fused=True)
    calls: dict[str, Sequence[Callable[[], object]]] = {
        "AGCSGD reference": [ours("reference")],
        "AGCSGD foreach": [ours("foreach")],
        "AGCSGD fused": [ours("fused")],
        "torch SGD foreach": [foreach],
        "torch SGD fused": [fused],
        "norms": [lambda: _norms(params)],
        BASELINE: [foreach, lambda: _norms(params)],
        "torch SGD fused + norms": [fused, lambda: _norms(params)],
    }

    def in_turn(parts: Sequence[Callable[[], object]]) -> Callable[[], None]:
        def step() -> None:
            for part in parts:
                part()

        return step

    return {name: in_turn(parts) for name, parts in calls.items()}


def _copied(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An optimizer writes its settings into the groups it is given."""
    return [dict(group) for group in groups]


def _norms(params: Sequence[Tensor]) -> list[Tensor]:
    """The unit-wise norms of parameters and gradients: one call each where there are units."""
    import torch

    from normfree.optim.functional import has_units, unitwise_norm

    with torch.no_grad():
        tensors = [*params, *(param.grad for param in params if param.grad is not None)]
        whole = [x for x in tensors if not has_units(x.shape)]
        units = [x for x in tensors if has_units(x.shape)]
        return [*torch._foreach_norm(whole), *map(unitwise_norm, units)]


def dispatched_operations(call: Callable[[], object]) -> int:
    """How many tensor operations a call dispatches."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.count += func.namespace == "aten"  # not the profiler's marks
            return func(*args, **(kwargs or {}))

    with Counter() as counter:
        call()
    return counter.count


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("optimizer", "operations", "median ms", "quartiles ms", "cost"):
        align: Any = "left" if heading == "optimizer" else "right"
        table.add_column(heading, justify=align, no_wrap=True)
    for cells in _cells(rows):
        table.add_row(*cells)
    return table


def _cells(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        low, median, high = (1e3 * row["seconds"][key] for key in ("low", "median", "high"))
        yield (
            row["optimizer"],
            f"{row['operations']}",
            f"{median:.2f}",
            f"{low:.2f}–{high:.2f}",
            f"{row['cost']:.2f}×",
        )
