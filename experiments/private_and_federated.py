"""The figures of the how-to pages on differential privacy and federated averaging.

    python -m experiments.private_and_federated

Runs the examples, keeps a JSON line of each in ``docs/howto/results/``, and writes the tables of
the pages. What is stored is not run again; ``--tables`` only writes the tables.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiments.study import put, summary
from normfree.analysis.environment import environment

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "howto"
SEEDS = range(3)
NOISES = (0.0, 2.0, 4.0)
ROUNDS = 12
SHOWN = (1, 2, 4, 8, 12)

Line = dict[str, Any]


def stored(name: str) -> list[Line]:
    """The finished runs of an example."""
    file = PAGES / "results" / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def run(name: str, **settings: float) -> None:
    """Run an example with these settings, unless its line is there."""
    if any(line.items() >= settings.items() for line in stored(name)):
        return
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    script = ROOT / "examples" / f"{name}.py"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, script, *flags, "--json"], capture_output=True, text=True, check=True
    )
    where = environment()
    line = {key: where[key] for key in ("date", "processor", "threads", "torch", "commit")}
    line |= json.loads(done.stdout) | {"seconds": round(time.perf_counter() - began, 1)}
    with (PAGES / "results" / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(name, settings, line["top1"], flush=True)


def privacy_table() -> str:
    """A row for each amount of noise."""
    rows = ["| noise σ | ε at δ = 10⁻⁴ | validation top-1, % | runs |", "|---|---|---|---|"]
    for noise in NOISES:
        lines = [line for line in stored("differential_privacy") if line["noise"] == noise]
        if lines:
            loss = f"{lines[0]['epsilon']:.2f}" if noise else "∞"
            rows.append(f"| {noise:g} | {loss} | {summary(lines, 'top1')} | {len(lines)} |")
    return "\n".join(rows)


def federated_table() -> str:
    """A column for some of the rounds."""
    lines = [line for line in stored("federated") if line["rounds"] == ROUNDS]
    if not lines:
        return ""
    means = [summary([{"top1": x["top1"][r - 1]} for x in lines], "top1") for r in SHOWN]
    return "\n".join(
        [
            f"| after round | {' | '.join(map(str, SHOWN))} |",
            "|---" * (len(SHOWN) + 1) + "|",
            f"| validation top-1, %; runs: {len(lines)} | {' | '.join(means)} |",
        ]
    )


def main() -> None:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", action="store_true", help="write the tables, run nothing")
    if not parser.parse_args().tables:
        (PAGES / "results").mkdir(exist_ok=True)
        for seed in SEEDS:
            for noise in NOISES:
                run("differential_privacy", noise=noise, seed=seed)
            run("federated", rounds=ROUNDS, seed=seed)
    put(PAGES / "differential_privacy.md", "differential_privacy", privacy_table())
    put(PAGES / "federated.md", "federated", federated_table())


if __name__ == "__main__":
    main()
