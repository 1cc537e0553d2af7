"""``normfree bench train --models …``: the training step of networks on random tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from normfree.cli.bench_output import milliseconds, print_table, times, write_json
from normfree.cli.output import say

if TYPE_CHECKING:
    from normfree.analysis.training import Entry
    from normfree.cli.bench_train import Options


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
        for form in options.forms:
            for layout in options.layouts:
                yield Entry(
                    network=network,
                    by=by,
                    batch_size=options.batch_size,
                    size=options.size or own,
                    precision=options.precision,
                    layout=layout,
                    form=form,
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
    phases = [*results[0]["phases"]]
    headings = ("network", "px", "batch", *(f"{name} ms" for name in phases), "quartiles ms")
    headings += ("images/s", "of matrix peak", "of copy peak", "memory MB")
    print_table(headings, [_cells(row) for row in results])
    for ratios in ("peer_ratios", "twin_ratios"):
        if found[ratios]:
            headings = ("faster", "than", *phases, "memory")
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
        *(milliseconds(phase)[0] for phase in row["phases"].values()),
        milliseconds(row["phases"]["total"])[1],
        f"{row['images_per_second']:.1f}",
        f"{row['matrix_fraction']:.0%}",
        f"{row['weight_fraction']:.0%}",
        "" if memory is None else f"{memory / 1e6:.0f}",
    )


def _ratio_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    *parts, (_, total) = row["phases"].items()
    memory = row["memory"]
    return (
        row["ours"],
        row["against"],
        *(f"{ratio['median']:.2f}×" for _, ratio in parts),
        times(total),
        "" if memory is None else f"{memory:.2f}×",
    )
