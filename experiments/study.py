"""What every experiment shares: runs that differ in a few settings, over seeds, as a table.

A study trains each of its variants once for each seed and keeps a JSON line of each run in
``docs/experiments/results/NAME.jsonl``; what is there already, with these settings, is not run
again. The table between the markers of ``docs/experiments/PAGE.md`` is written from these lines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from normfree.analysis.environment import environment
from normfree.train.components import Data, Network
from normfree.train.finite import NonFiniteError
from normfree.train.fit import fit
from normfree.train.flags import current, settings
from normfree.train.recipe import Recipe

DOCS = Path(__file__).parent.parent / "docs" / "experiments"

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Some recipes that differ in little.

    Args:
        name: of its file of results, and of the table in the page.
        base: the recipe of all.
        variants: what a row is called → the settings that make it; others are those of ``base``.
        seeds: how many runs a variant has.
        judged: what its images are that are not trained on, for the head of the table.
        page: the page of ``docs/experiments`` that has the table; None: the script writes its own.
    """

    name: str
    base: Recipe
    variants: Mapping[str, Mapping[str, Any]]
    seeds: int = 3
    judged: str = "validation"
    page: str | None = None

    @property
    def results(self) -> Path:
        """A line for each finished run."""
        return DOCS / "results" / f"{self.name}.jsonl"

    def lines(self) -> list[Line]:
        """The finished runs."""
        if not self.results.exists():
            return []
        return [json.loads(line) for line in self.results.read_text().splitlines()]


def run(study: Study) -> None:
    """Train what is missing, one seed of every variant after the other, then write the table."""
    done = {(line["variant"], line["seed"], line["settings"]) for line in study.lines()}
    study.results.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(study.seeds):
        for variant, changes in study.variants.items():
            recipe = study.base.override(**changes)
            known = {"variant": variant, "seed": seed, "settings": fingerprint(recipe)}
            if tuple(known.values()) in done:
                continue
            line = known | outcome(recipe, seed)
            with study.results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(study.name, variant, seed, line["top1_ema"], f"{line['seconds']} s", flush=True)
    write_table(study)


def fingerprint(recipe: Recipe) -> str:
    """A hash of the settings, but for defaults and where the files lie; 8 hexadecimal digits.

    A setting that recipes gain later leaves the runs of today known.
    """
    default = Recipe(data=Data(source="none"), model=Network(name="none"))
    own = {
        flag: current(recipe, flag)
        for flag in sorted({setting.flag for setting in settings(Recipe)})
        if current(recipe, flag) != current(default, flag)
    }
    for place in own.keys() & {"data", "init"}:
        own[place] = Path(own[place]).name
    return hashlib.blake2b(json.dumps(own).encode(), digest_size=4).hexdigest()


def outcome(recipe: Recipe, seed: int) -> Line:
    """What a run reached; a run whose loss is no number any more reached nothing."""
    where = environment()
    found: Line = {key: where[key] for key in ("date", "processor", "threads", "torch", "commit")}
    began, computed = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        run = recipe.override(
            seed=seed,
            out=Path(directory) / "run",
            eval_every=10**6,
            checkpoint_every=10**9,
            keep_checkpoints=1,
        )
        try:
            last = fit(run).last
        except NonFiniteError as error:
            last = {"diverged": str(error).partition(";")[0]}
    keys = {"top1": "val_top1", "top1_ema": "val_top1_ema", "train": "train_accuracy"}
    found |= {key: last.get(name) for key, name in keys.items()}
    if "diverged" in last:
        found["diverged"] = last["diverged"]
    found["processor_seconds"] = round(time.process_time() - computed, 1)
    return found | {"seconds": round(time.perf_counter() - began, 1)}


def summary(lines: Sequence[Line], key: str) -> str:
    """Mean ± standard deviation in per cent, and how many runs diverged."""
    values = [100 * line[key] for line in lines if line[key] is not None]
    failed = len(lines) - len(values)
    if not values:
        return f"diverged ({failed} of {failed})"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    note = f" ({failed} of {len(lines)} diverged)" if failed else ""
    return f"{statistics.mean(values):.2f}{spread}{note}"


def table(study: Study) -> str:
    """The results in Markdown."""
    rows = [
        f"| | {study.judged} top-1, % | averaged weights, % | training images, % | runs | s a run |"
    ]
    rows.append("|---|---|---|---|---|---|")
    for variant in study.variants:
        wanted = (variant, fingerprint(study.base.override(**study.variants[variant])))
        lines = [x for x in study.lines() if (x["variant"], x["settings"]) == wanted]
        if lines:
            numbers = " | ".join(summary(lines, key) for key in ("top1", "top1_ema", "train"))
            times = [line.get("processor_seconds", line["seconds"]) for line in lines]
            seconds = statistics.median(times)
            rows.append(f"| {variant} | {numbers} | {len(lines)} | {seconds:.0f} |")
    return "\n".join(rows)


def write_table(study: Study) -> None:
    """Put the results between the markers of the page."""
    if study.page is not None:
        put(DOCS / f"{study.page}.md", study.name, table(study))


def put(page: Path, name: str, written: str) -> None:
    """Replace what is between the markers of this name in a page."""
    begin, end = f"<!-- {name}: written by experiments/ -->", "<!-- end -->"
    before, found, rest = page.read_text().partition(begin)
    if not found:
        raise SystemExit(f"{page} lacks the line {begin}")
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{written}\n\n{end}{after}")


def main(studies: Sequence[Study], doc: str, prepare: Callable[[], None] = lambda: None) -> None:
    """The command line of an experiment: run its studies, or only write their tables.

    Args:
        studies: what can be run.
        doc: of the script.
        prepare: makes what the runs start from; not called to write tables.
    """
    options = command_line(doc)
    if not options.tables:
        prepare()
    for study in studies:
        if options.only and study.name not in options.only:
            continue
        chosen = study if options.seeds is None else replace(study, seeds=options.seeds)
        write_table(chosen) if options.tables else run(chosen)


def command_line(doc: str) -> argparse.Namespace:
    """What an experiment is asked to do.

    Args:
        doc: of the script.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--only", nargs="*", help="names of studies; all without it")
    parser.add_argument("--seeds", type=int, help="runs of each variant")
    parser.add_argument("--tables", action="store_true", help="write the tables, run nothing")
    return parser.parse_args()
