"""A recipe's training step in this checkout beside another one, such as an older commit.

    git worktree add ../before COMMIT && (cd ../before && python setup.py build_ext --inplace)
    python benchmarks/two_checkouts.py ../before --recipe digits --set batch_size=64 --json OUT.json

Each round runs ``normfree bench train --recipe …`` once in each checkout, in processes of their own
that take turns. The images are in memory; the step is all from the batch to the updated averages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from normfree.analysis.environment import environment

HERE = Path(__file__).parents[1]


def measured(checkout: Path, recipe: str, settings: Sequence[str], rounds: int) -> dict[str, Any]:
    """The row of the recipe, by a fresh process in a checkout."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "found.json"
        words = ["bench", "train", "--recipe", recipe, "--rounds", str(rounds), "--json", str(file)]
        if settings:
            words += ["--set", *settings]
        code = "import sys; from normfree.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, *words]
        subprocess.run(command, check=True, cwd=checkout, capture_output=True)
        found: dict[str, Any] = json.loads(file.read_text())["results"][0]
        return found


def main() -> None:
    """Measure, print, and store."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--set", nargs="*", default=())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="in each round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"here": [], "other": []}
    for _ in range(options.rounds):
        for name, checkout in (("here", HERE), ("other", options.other)):
            row = measured(checkout, options.recipe, options.set, options.steps)
            rates[name].append(row["images_per_second"])
    ratios = [here / other for here, other in zip(*rates.values(), strict=True)]
    low, _, high = quantiles(ratios, n=4)
    commit = ["git", "-C", str(options.other), "rev-parse", "--short", "HEAD"]
    found = {
        "benchmark": "two_checkouts",
        **environment(),
        "recipe": options.recipe,
        "set": list(options.set),
        "other_commit": subprocess.run(
            commit, check=True, capture_output=True, text=True
        ).stdout.strip(),
        "images_per_second": rates,
        "ratio": {"median": median(ratios), "low": low, "high": high},
    }
    here, other = (median(rates[name]) for name in rates)
    print(f"{options.recipe}: {here:.0f} images/s, the other {other:.0f}: {here / other:.2f}×")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
