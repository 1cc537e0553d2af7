"""What telemetry adds to a step of training: with and without it, in turns, in one process.

    PYTHONPATH=. python benchmarks/telemetry_cost.py --json OUT.json

A round is 20 steps with telemetry and a reading, and as many without; they take turns. Time is that
of the processor, on one thread, so that what else the machine does counts for little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from normfree import create_model
from normfree.analysis.environment import environment
from normfree.analysis.telemetry import Telemetry
from normfree.optim import AGCSGD, EMA, param_groups


def measured(name: str, batch: int, size: int, channels: int, every: int, rounds: int) -> dict:
    """Median seconds of a step with and without, and quartiles of their ratio."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=10, in_channels=channels).train()
    images, labels = torch.randn(batch, channels, size, size), torch.randint(0, 10, (batch,))
    optimizer = AGCSGD(param_groups(model, clipping=0.01), lr=1e-3)
    average, keys = EMA(model, decay=0.999), torch.arange(batch)
    telemetry = Telemetry(optimizer, every=every)

    def step(number: int, with_it: bool) -> None:
        optimizer.zero_grad()
        cross_entropy(model(images, keys), labels).backward()
        if not with_it:
            optimizer.step_and_average(average, number)
            int(optimizer.clipped_units)
            return
        with telemetry.watching(number):
            optimizer.step_and_average(average, number)
        telemetry.add(optimizer.clip_record)
        int(optimizer.clipped_units)
        if telemetry.due(number):
            telemetry.read()

    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds + 1):
        for with_it in (True, False) if number % 2 else (False, True):
            began = time.process_time()
            for place in range(every):
                step(place, with_it)
            if number:
                seconds[with_it].append((time.process_time() - began) / every)
    ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "model": name, "batch": batch, "size": size, "every": every, "rounds": rounds,
        "median_seconds_with": statistics.median(seconds[True]),
        "median_seconds_without": statistics.median(seconds[False]),
        "ratio": middle, "ratio_quartiles": [low, high],
    }  # fmt: skip


def main() -> None:
    """Measure and print; write JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = [("nfnet_nano", 64, 8, 1, 20), ("nfnet_micro", 16, 64, 3, 20)]
    torch.set_num_threads(1)
    found = []
    for name, batch, size, channels, every in cases:
        found.append(measured(name, batch, size, channels, every, options.rounds))
        print(found[-1], flush=True)
    if options.json is not None:
        result = {"benchmark": "telemetry_cost", **environment(), "results": found}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
