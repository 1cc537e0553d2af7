"""``normfree bench train --models …``: the training step of networks on random tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import TYPE_CHECKING, Any

from normfree.cli.bench_output import milliseconds, print_table, times, write_json
from normfree.cli.output import say

if TYPE_CHECKING:
    from normfree.analysis.training import Entry
    from normfree.cli.bench_train import Options


#: In order; the backward pass may do the update, too.
PHASES = ("forward", "backward", "update", "total")


def measure_networks(options: Options) -> None:
    """Measure, print, and write the file."""
    from normfree.analysis.environment import environment
    from normfree.analysis.training import compare_training, peer_ratios, twin_ratios
    from normfree.device import find_device

    find_device(options.device)
    entries = list(_entries(options))
    found = compare_training(entries, rounds=options.rounds, memory=options.memory)
    found["peer_ratios"] = [*peer_ratios(found["results"])]
    found["twin_ratios"] = [*twin_ratios(found["results"])]
    _print(found)
    ignored = ("json", "recipe", "set", "variants")
    settings = {name: value for name, value in asdict(options).items() if name not in ignored}
    versions = _versions(options)
    where = {"benchmark": "train_networks", **environment(), **versions, "options": settings}
    write_json(options.json, where | found)


def _versions(options: Options) -> dict[str, str]:
    if not (options.peers or options.others):
        return {}
    from normfree.analysis.training import require_timm

    return {"timm": require_timm().__version__}


def _entries(options: Options) -> Iterator[Entry]:
    """Each network in each form and layout."""
    from normfree.analysis.training import Entry
    from normfree.analysis.training.peers import train_size
    from normfree.models import model_config

    for by, network in dict.fromkeys(_networks(options)):
        own = model_config(network).train_size if by == "normfree" else train_size(network)
        updates = options.updates if by == "normfree" else ("after",)
        for form, layout, update in product(options.forms, options.layouts, updates):
            yield Entry(
                network=network,
                by=by,
                batch_size=options.batch_size,
                size=options.size or own,
                precision=options.precision,
                layout=layout,
                form=form,
                update=update,
                device=options.device,
            )


def _networks(options: Options) -> Iterator[tuple[Any, str]]:
    """Library and name."""
    from normfree.analysis.training import PEERS, twin_of

    for network in options.models:
        twin = twin_of(network) if options.twins else None
        for one in filter(None, (network, twin)):
            yield "normfree", one
            if options.peers and one in PEERS:
                yield "timm", PEERS[one]
    for network in options.others:
        yield "timm", network


def _print(found: Mapping[str, Any]) -> None:
    results: Sequence[Mapping[str, Any]] = found["results"]
    headings = ("network", "px", "batch", *(f"{name} ms" for name in PHASES), "quartiles ms")
    headings += ("images/s", "of matrix peak", "of copy peak", "memory MB")
    print_table(headings, [_cells(row) for row in results])
    for ratios in ("peer_ratios", "twin_ratios"):
        if found[ratios]:
            headings = ("faster", "than", *PHASES, "memory")
            print_table(headings, [_ratio_cells(row) for row in found[ratios]], left=2)
    matrix, copy = found["ceilings"]["matrix"], found["ceilings"]["copy"]
    say(
        f"measured peaks: {matrix['per_second'] / 1e9:.0f} GFLOP/s ({matrix['by']}), "
        f"{copy['per_second'] / 1e9:.1f} GB/s (copy). Of copy peak: update and average, if they "
        "only touched what they must."
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    memory = row["memory_bytes"]
    return (
        row["label"],
        str(row["size"]),
        str(row["batch_size"]),
        *(_median(row, phase) for phase in PHASES),
        milliseconds(row["phases"]["total"])[1],
        f"{row['images_per_second']:.1f}",
        f"{row['matrix_fraction']:.0%}",
        "" if row["weight_fraction"] is None else f"{row['weight_fraction']:.0%}",
        "" if memory is None else f"{memory / 1e6:.0f}",
    )


def _median(row: Mapping[str, Any], phase: str) -> str:
    found = row["phases"].get(phase)
    return "" if found is None else milliseconds(found)[0]


def _ratio_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    phases, memory = row["phases"], row["memory"]
    return (
        row["ours"],
        row["against"],
        *(f"{phases[name]['median']:.2f}×" if name in phases else "" for name in PHASES[:-1]),
        times(phases["total"]),
        "" if memory is None else f"{memory:.2f}×",
    )
