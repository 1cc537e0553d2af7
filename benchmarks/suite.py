"""The benchmarks in a small form, beside the stored results: ``make bench``, a few minutes.

    python benchmarks/suite.py [--json benchmarks/results/DATE_suite.json] [--rounds 8]

A ratio is marked as worse if its quartiles lie wholly below the stored ones. On another processor
than the stored one's, that may say more about the processor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.stored import RESULTS, newest_ratios, read_ratios, table
from benchmarks.timm_standin import install

install()  # here, because the processes that measure memory import this file, too

#: Options of ``normfree bench``; training beside timm.
SMALL = (
    "train --models nfnet_f0 --peers --size 96 --batch-size 4 --no-memory",
    "train --models nfnet_f0 --peers --size 96 --batch-size 16 --no-memory",
    "optim --model nfnet_f0",
    "infer --models nfnet_f0",
)
#: The same on a network of a few layers, to try the suite.
TINY = (
    "train --models nfnet_pico --size 16 --batch-size 2 --no-memory",
    "optim --model nfnet_pico --largest-axis 4",
    "infer --models nfnet_pico",
)


def measure(commands: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """Run the benchmarks; yields what each has found."""
    from normfree.cli import main

    with TemporaryDirectory() as directory:
        for number, command in enumerate(commands):
            print(f"normfree bench {command}", flush=True)
            file = Path(directory) / f"{number}.json"
            words = [*command.split(), "--rounds", str(rounds), "--json", str(file)]
            with suppress(SystemExit):
                main(["bench", *words])
            if file.exists():
                yield json.loads(file.read_text())


def run(words: Sequence[str]) -> int:
    """Measure, print the ratios, and store them if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="store the results in this file")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are stored")
    parser.add_argument("--tiny", action="store_true", help="a few layers, without timm")
    options = parser.parse_args(words)
    commands = TINY if options.tiny else SMALL
    runs = list(measure(commands, options.rounds))
    today = read_ratios({"runs": runs})

    from normfree.cli.bench_output import print_table, write_json

    headings = ("faster", "today", "stored", "", "from")
    print_table(headings, table(today, newest_ratios(options.results)), left=5)
    write_json(options.json, {"command": "make bench", "runs": runs})
    return 0 if len(runs) == len(commands) else 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
