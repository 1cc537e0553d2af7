"""What asynchronous checkpoints cost: blocks of steps with one beside blocks without, in turns.

    python benchmarks/checkpoint_cost.py --json benchmarks/results/DATE_checkpoint_cost.json

A block is long enough for its checkpoint to be written to the end while the steps go on. The cost
of a checkpoint is the median difference between the blocks of a pair; its share is that of the time
of 50 steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as the command line does, before PyTorch loads

from normfree.analysis.environment import environment
from normfree.train.build import build_engine, build_state, build_step
from normfree.train.build_reader import build_reader
from normfree.train.components import Data, Loop, Network
from normfree.train.init import new_model
from normfree.train.keeping import NO_MARK
from normfree.train.recipe import Recipe
from normfree.train.resolve import resolve
from normfree.train.runtime import Runtime
from normfree.train.sources import open_sources
from normfree.train.store import LocalStore
from normfree.train.writer import CheckpointWriter

EVERY = 50  # steps between checkpoints


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nfnet_f0")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--block", type=int, default=8, help="steps")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--directory", type=Path, help="where checkpoints go")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        result = measured(options, Path(directory))
    print(json.dumps(result, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def measured(options: argparse.Namespace, directory: Path) -> dict[str, object]:
    """All of it."""
    settings = {
        "batch_size": options.batch_size,
        "train_size": options.size,
        "test_size": options.size,
        "steps": 10**6,
        "lr": 1e-3,
        "device": "cpu",
    }
    data = Data(source=f"synthetic:64x{options.size}x3x10")
    recipe = Recipe(data=data, model=Network(name=options.model)).override(**settings)
    sources = open_sources(recipe.data.source)
    resolved = resolve(recipe, *sources)
    runtime = Runtime(device="cpu")
    engine = build_engine(recipe, runtime)
    model, _ = new_model(resolved.model, resolved.classes, None, seed=0)
    state = build_state(resolved, model, engine)
    step, reader = build_step(resolved, state, engine), build_reader(resolved, sources, runtime)
    store = LocalStore(directory)
    store.prepare()
    writer = CheckpointWriter(store, runtime, Loop(keep_checkpoints=1))
    blocks: dict[bool, list[float]] = {True: [], False: []}
    copies: list[float] = []
    with writer.closing(), closing(reader.train(0)) as micro_batches:

        def block(saves: bool) -> None:
            began = time.perf_counter()
            if saves:
                content = {"config": {}, "card": {}, "state": state.state_dict()}
                writer.save(content, step=state.step, mark=NO_MARK)
                copies.append(time.perf_counter() - began)
            for _ in range(options.block):
                step(itertools.islice(micro_batches, recipe.batch.accumulate))
                writer.check()
            blocks[saves].append(time.perf_counter() - began)
            if saves:
                waited = time.perf_counter()
                writer.wait()
                assert time.perf_counter() - waited < 0.01, "longer blocks: --block"

        for saves in (True, False):  # warms up, and makes the host's copy
            block(saves)
        for part in (copies, *blocks.values()):
            part.clear()
        for number in range(options.pairs):
            for saves in (number % 2 == 0, number % 2 == 1):
                block(saves)
    pairs = [w - o for w, o in zip(blocks[True], blocks[False], strict=True)]
    seconds = statistics.median(blocks[False]) / options.block
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return {
        "model": options.model,
        "pixels": options.size,
        "batch_size": options.batch_size,
        "checkpoint_megabytes": round(size / 1e6),
        "seconds_per_step": round(seconds, 3),
        "copy_seconds": [round(x, 3) for x in copies],
        "extra_seconds": [round(x, 3) for x in pairs],
        "median_extra_seconds": round(statistics.median(pairs), 3),
        f"percent_of_{EVERY}_steps": round(100 * statistics.median(pairs) / (EVERY * seconds), 2),
        **environment(),
    }


if __name__ == "__main__":
    main()
