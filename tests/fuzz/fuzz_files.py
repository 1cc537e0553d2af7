"""Damaged files of every format: each must give an answer or a one-line error.

    python tests/fuzz/fuzz_files.py --count 3000 --seed 0 [--formats safetensors onnx] [--keep DIR]

Each file is read in its own process, which may compute for 5 seconds and use 1 GB more than the
process that starts it. Some files hold pickles, names and tags that run a command, if a reader lets
them, and leave a mark. Anything but an answer or a refusal (another exception, a signal, a hang, a
mark) is a failure, and failing files are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import normfree
from normfree.analysis.environment import environment
from normfree.errors import UserError
from normfree.inference import export_model
from normfree.models import ImageClassifier
from normfree.train.checkpoint import newest_checkpoint, save_checkpoint
from normfree.weights import describe, load_model, plain_card, save_model
from normfree.weights.checkpoint_directory import STATE, SUMS, sums_text
from tests.fuzz import mutate, plant, sources
from tests.unit.weights.files import pico, write_haiku
from tests.unit.weights.test_load import write_timm

SECONDS = 5  # of computing
PATIENCE = 60.0  # seconds of waiting
BYTES = 2**30
IMAGE = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
CARD = {"classes": list("abcde"), "mean": [127.5], "std": [64.0], "data": "digits"}

Mutation = Callable[[bytes, random.Random], bytes]


class Format(NamedTuple):
    """A file format: how to write, mutate and read it."""

    write: Callable[[ImageClassifier, Path], Path]
    mutations: tuple[Mutation, ...]
    read: Callable[[Path], object]


def predict(path: Path) -> None:
    """Load a file and classify an image, unless its card asks for large images."""
    predictor = normfree.load(path, trusted=True)
    if predictor.card.test_size + predictor.card.test_margin <= 256:
        predictor.predict(IMAGE)


def _ours(model: ImageClassifier, path: Path) -> Path:
    save_model(model, path, card=CARD)
    return path


def _exported(model: ImageClassifier, path: Path) -> Path:
    export_model(model, path, CARD)
    return path


def _content(model: ImageClassifier) -> dict[str, Any]:
    return {
        "config": {"recipe": {"name": "x", "data": "digits"}, "derived": {"model": {}}},
        "card": plain_card(describe(model, CARD)),
        "state": {"ema": model.state_dict(), "optimizer": {"state": {0: torch.zeros(3)}}},
    }


def _checkpoint(model: ImageClassifier, path: Path) -> Path:
    """One file, as checkpoints were before they were directories."""
    (path.parent / "checkpoints").mkdir()
    path = path.parent / "checkpoints" / "step-00000003.pt"
    torch.save({"format": 1, "step": 3, **_content(model)}, path)
    return path


def _state(model: ImageClassifier, path: Path) -> Path:
    directory = save_checkpoint(path.parent / "checkpoints", _content(model), step=3, keep=1)
    return directory / STATE


def _shard(model: ImageClassifier, path: Path) -> Path:
    return _state(model, path).with_name("shard-00000-of-00001.safetensors")


def _damaged(path: Path) -> None:
    """Read a checkpoint of which a file was changed."""
    newest_checkpoint(path.parent.parent)


def _crafted(path: Path) -> None:
    """The same with checksums that are right."""
    files = [file for file in path.parent.iterdir() if file.name != SUMS]
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (path.parent / SUMS).write_bytes(sums_text(sums))
    predict(path.parent)


def _resume(path: Path) -> None:
    newest_checkpoint(path.parent)


_IN_ZIP = (mutate.in_zip, plant.in_zip)
FORMATS: dict[str, Format] = {
    "safetensors": Format(_ours, (mutate.any_bytes, mutate.in_safetensors), predict),
    "checkpoint": Format(_checkpoint, (mutate.any_bytes, *_IN_ZIP), predict),
    "resume": Format(_checkpoint, (mutate.any_bytes, *_IN_ZIP), _resume),
    "state": Format(_state, (mutate.any_bytes, mutate.flip), _crafted),
    "shard": Format(_shard, (mutate.any_bytes, mutate.in_safetensors), _crafted),
    "sums": Format(_shard, (mutate.any_bytes,), _damaged),
    "timm": Format(write_timm, (mutate.any_bytes, *_IN_ZIP), load_model),
    "haiku": Format(write_haiku, (mutate.any_bytes, mutate.flip), load_model),
    "onnx": Format(_exported, (mutate.any_bytes, mutate.flip_near_an_end), predict),
    "pt2": Format(_exported, (mutate.any_bytes, *_IN_ZIP), predict),
    "config": Format(sources.config, (mutate.any_bytes, plant.in_text), sources.read_run),
    "pack": Format(sources.pack, (mutate.any_bytes, mutate.flip), sources.READERS["pack"]),
    "wds": Format(sources.shard, (mutate.any_bytes, mutate.flip), sources.READERS["wds"]),
    "parquet": Format(sources.parquet, (mutate.any_bytes, mutate.flip), sources.READERS["parquet"]),
    "csv": Format(sources.table, (mutate.any_bytes, plant.in_text), sources.READERS["csv"]),
}
_PLANTED = (plant.whole, plant.inside)  # in every format, a quarter of all files
#: Found by their names.
IN_PLACE = ("resume", "state", "shard", "sums", "config")
SUFFIX = {
    **{"onnx": ".onnx", "pt2": ".pt2", "safetensors": ".safetensors", "pack": ".pack"},
    **{"wds": ".tar", "parquet": ".parquet", "csv": ".csv"},
}


def fuzz(name: str, count: int, seed: int, keep: Path | None = None) -> Counter[str]:
    """Mutate and read files of one format.

    Args:
        name: of the format.
        count: how many files.
        seed: of the damage.
        keep: where files that fail are kept.

    Returns:
        How often what happened: ``answer``, ``refused``, or what should not have.
    """
    kind, found = FORMATS[name], Counter[str]()
    with tempfile.TemporaryDirectory() as directory:
        marks = Path(directory) / "marks" / "here"  # room for names that lead up
        marks.mkdir(parents=True)
        model = pico(in_channels=1)
        whole = kind.write(model, Path(directory) / f"whole{SUFFIX.get(name, '.pth')}")
        data = whole.read_bytes()
        kind.read(whole)  # imports everything needed before forking
        for number in range(count):
            draw = random.Random(f"{name} {seed} {number}")
            mutations = _PLANTED if draw.random() < 0.25 else kind.mutations
            damaged = draw.choice(mutations)(data, draw)
            if damaged == data:
                continue
            path = whole if name in IN_PLACE else whole.with_name(f"damaged{whole.suffix}")
            path.write_bytes(damaged)
            outcome = in_a_process(lambda path=path: kind.read(path), marks)
            found[outcome] += 1
            if keep is not None and outcome not in ("answer", "refused"):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{seed}-{number}{whole.suffix}").write_bytes(damaged)
    return found


def in_a_process(read: Callable[[], object], marks: Path | None = None) -> str:
    """The outcome of reading in a process with limited time and memory.

    Args:
        read: what the process does.
        marks: its working directory; what appears there, or beside it, was run.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        if marks is not None:
            os.chdir(marks)
        _in_child(read, writer)
    os.close(writer)
    end = time.monotonic() + PATIENCE
    said = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            said = b"no end"
            break
        part = os.read(reader, 4096)
        if not part:
            break
        said += part
    os.close(reader)
    _, status, usage = os.wait4(child, 0)
    if marks is not None and _marked(marks):
        return "something was run"
    if said == b"no end" or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return "no end in 5 s"
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    grown = usage.ru_maxrss * 1024 - _resident()
    return f"{grown / 2**20:.0f} MB more" if grown > BYTES else said.decode(errors="replace")


def _marked(marks: Path) -> bool:
    """Whether something appeared; it is removed."""
    found = [path for path in (*marks.iterdir(), *marks.parent.iterdir()) if path != marks]
    for path in found:
        path.unlink()
    return bool(found)


def _in_child(read: Callable[[], object], writer: int) -> None:
    """Never returns."""
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    warnings.simplefilter("ignore")
    try:
        read()
        said = "answer"
    except UserError as error:
        said = "refused" if len(str(error)) < 3000 else "a message of more than 3,000 letters"
    except BaseException as error:
        said = f"unexpected {type(error).__name__}: {str(error)[:150]}"
    os.write(writer, said.encode(errors="replace"))
    os._exit(0)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz all formats, print one line each, and exit with an error if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="files in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="*", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--keep", type=Path, help="directory for the files that fail")
    parser.add_argument("--json", type=Path, help="file for the totals")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    failed, totals = 0, {}
    for name in options.formats:
        began = time.monotonic()
        found = fuzz(name, options.count // len(options.formats), options.seed, options.keep)
        fine = found.pop("answer", 0), found.pop("refused", 0)
        failed += found.total()
        totals[name] = {"answers": fine[0], "refused": fine[1], "failed": found.total()}
        seconds = time.monotonic() - began
        sys.stdout.write(
            f"{name:12} {sum(fine) + found.total():5} files: {fine[0]} answers, {fine[1]} refused, "
            f"{found.total()} failed; {seconds:.0f} s\n"
        )
        for outcome, times in found.most_common(8):
            sys.stdout.write(f"    {times:4} {outcome}\n")
        sys.stdout.flush()
    if options.json:
        report = {"fuzz": "files", **environment(), "seed": options.seed, "formats": totals}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
