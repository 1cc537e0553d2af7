"""Ours against theirs: ratios of the rows of a comparison."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from normfree.analysis.training.peers import PEERS
from normfree.models import list_models

Row = Mapping[str, Any]


def twin_of(network: str) -> str | None:
    """The batch-normalized twin of a network without normalization.

    >>> twin_of("nfnet_f0"), twin_of("nf_resnet50"), twin_of("nf_regnet_b0")
    ('bn_nfnet_f0', 'bn_resnet50', None)
    """
    twin = re.sub("^nf_|^(?=nfnet)", "bn_", network)
    return twin if twin != network and list_models(twin) else None


def peer_ratios(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Each of our rows against timm's same network at its fastest, eager and compiled.

    Args:
        rows: of :func:`~normfree.analysis.training.compare_training`.

    Yields:
        ``network``, ``our_form``, ``ours`` and ``against`` (labels), ``form`` (of the peer),
        ``phases`` → how many times as fast ours is, and ``memory``, ours as a share of theirs.
        ``total`` is a phase. If our backward pass updates, it is compared with both of theirs.
    """
    for ours in rows:
        peers = [row for row in rows if row["network"] == PEERS.get(ours["network"])]
        yield from _against(ours, [row for row in peers if row["by"] == "timm"])


def twin_ratios(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Each of our networks without normalization against its twin at its fastest."""
    for ours in rows:
        twins = [row for row in rows if row["network"] == twin_of(ours["network"])]
        yield from _against(ours, [row for row in twins if row["by"] == "normfree"])


def _against(ours: Row, others: Sequence[Row]) -> Iterator[dict[str, Any]]:
    if ours["by"] != "normfree":
        return
    for form in dict.fromkeys(row["form"] for row in others):
        other = min((row for row in others if row["form"] == form), key=_total)
        memory = [row["memory_bytes"] for row in (ours, other)]
        yield {
            "network": ours["network"],
            "our_form": ours["form"],
            "ours": ours["label"],
            "against": other["label"],
            "form": form,
            "phases": {name: _faster(ours, other, name) for name in ours["phases"]},
            "memory": memory[0] / memory[1] if all(memory) else None,
        }


def _faster(ours: Row, other: Row, phase: str) -> dict[str, float]:
    """How many times as fast ours is; at worst and at best, by quartiles."""
    both = phase == "backward" and "update" not in ours["phases"]
    names = [name for name in ("backward", "update") if name in other["phases"]]
    one, theirs = (
        ours["phases"][phase],
        [other["phases"][name] for name in (names if both else [phase])],
    )
    return {
        mine: sum(two[its] for two in theirs) / one[against]
        for mine, its, against in (
            ("median", "median", "median"),
            ("low", "low", "high"),
            ("high", "high", "low"),
        )
    }


def _total(row: Row) -> float:
    return float(row["phases"]["total"]["median"])
