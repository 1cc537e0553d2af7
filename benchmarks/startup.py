"""How long commands take that only look something up, beside another checkout's.

python benchmarks/startup.py OUT.json [OTHER_CHECKOUT]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from normfree.analysis.environment import environment

COMMANDS = {"--help": 5, "train --help": 5, "recipes": 5, "info": 3}


def seconds(words: str, checkout: Path) -> float:
    """From the start of the process to its end."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "normfree", *words.split()]
    subprocess.run(command, cwd=checkout, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(out: str, *others: str) -> None:
    """Measure each command in this checkout and the others, and write medians and extremes."""
    checkouts = {"now": Path.cwd(), **{name: Path(name) for name in others}}
    results = []
    for words, runs in COMMANDS.items():
        for name, checkout in checkouts.items():
            times = [seconds(words, checkout) for _ in range(runs)]
            results.append(
                {
                    "command": f"normfree {words}",
                    "checkout": name if name == "now" else "before",
                    "runs": runs,
                    "median": statistics.median(times),
                    "least": min(times),
                    "most": max(times),
                }
            )
    text = json.dumps({"benchmark": "startup", **environment(), "results": results}, indent=1)
    Path(out).write_text(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
