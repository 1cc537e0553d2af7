"""Measure the training step of several networks in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from normfree.analysis.ceilings import Ceiling, best_rates, ceilings
from normfree.analysis.complexity import training_flops
from normfree.analysis.latency import Latency, compare_phases, timer_of
from normfree.analysis.training.entry import Entry
from normfree.analysis.training.memory import peak_memory
from normfree.analysis.training.step import Step, build_step

STREAMS = 7
"""Tensors of the size of the weights that the update and the average must read or write.

Weights, gradients and momentum are read; weights and momentum are written; the average is read and
written."""


def compare_training(
    entries: Sequence[Entry],
    *,
    rounds: int,
    memory: bool = True,
    limits: Mapping[str, Ceiling] | None = None,
) -> dict[str, Any]:
    r"""Time the phases of the steps of several networks, and the machine's ceilings, in turns.

    Args:
        entries: what is measured; all on one device and with one precision.
        rounds: times that each step is taken and timed, at least 2.
        memory: whether to measure the peak memory, too, before the times.
        limits: what the machine can do at best; :func:`~normfree.analysis.ceilings.ceilings` by
            default.

    Returns:
        ``ceilings`` (kind → ``by``, ``per_second``, ``seconds``) and ``results``, a row for each
        entry: its fields, ``label``, ``parameters``, ``flops`` of a step, ``phases`` (name →
        latency; ``total`` is the last), ``images_per_second``, ``matrix_fraction`` (the rate of
        those operations over the whole step as a share of the ceiling), ``weight_fraction`` (time
        of copying what update and average must touch, 7 streams of float32, as a share of theirs;
        None if the backward pass updates)
        and ``memory_bytes``.

    Raises:
        UserError: a network does not exist, or cannot be measured.

    Source: appendix A.2 of the paper: tensors are on the device, and the median over many steps
    counts.
    """
    first, threads = entries[0], torch.get_num_threads()
    peaks = {entry: peak_memory(entry, threads) if memory else None for entry in entries}
    steps = {entry: build_step(entry) for entry in entries}
    limits = ceilings(first.device, first.dtype) if limits is None else limits
    calls: dict[str, Mapping[str, Any]] = {str(entry): step.phases for entry, step in steps.items()}
    calls |= {name: {"call": limit.call} for name, limit in limits.items()}
    found = compare_phases(calls, rounds=rounds, timer=timer_of(first.device))
    best = best_rates(limits, {name: found[name]["total"] for name in limits})
    rates = {str(kind): rate["per_second"] for kind, rate in best.items()}
    return {
        "ceilings": best,
        "results": [
            _row(entry, step, found[str(entry)], rates) | {"memory_bytes": peaks[entry]}
            for entry, step in steps.items()
        ],
    }


def _row(
    entry: Entry, step: Step, phases: Mapping[str, Latency], rates: Mapping[str, float]
) -> dict[str, Any]:
    flops, total = training_flops(step.macs), phases["total"].median
    copying = STREAMS * 4 * step.parameters / rates["copy"]
    return {
        "label": str(entry),
        **asdict(entry),
        "parameters": step.parameters,
        "flops": flops,
        "phases": {name: asdict(latency) for name, latency in phases.items()},
        "images_per_second": entry.batch_size / total,
        "matrix_fraction": flops / total / rates["matrix"],
        "weight_fraction": copying / phases["update"].median if "update" in phases else None,
    }
