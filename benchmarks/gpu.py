"""Everything that needs a GPU, in one command: ``python benchmarks/gpu.py``.

For each of NFNet-F0 to F5 at its training size, batch 32 and bfloat16: the step of ours and of
timm's, eager, compiled and with CUDA graphs; its share of the measured matrix peak; update and
average beside a copy of what they must touch. Then NFNet-F1 against EfficientNet-B7, and twenty
steps in which nothing may wait for the device. Writes a JSON file and a page of documentation.

Each comparison is a process of its own; one that fails, for want of memory for example, is named
on the page, and the others go on. ``--device cpu --tiny`` tries it all on a few layers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.markdown import tables

ROOT = Path(__file__).parents[1]
SYNC_STEPS = 20
_FORMS = "eager compiled cuda_graphs"
_FULL = {
    **{
        f"nfnet_f{n}": f"--models nfnet_f{n} --peers --twins --forms {_FORMS} --batch-size 32"
        for n in range(6)
    },
    "nfnet_f1 and efficientnet_b7": "--models nfnet_f1 --others efficientnet_b7 "
    f"--forms {_FORMS} --batch-size 32",
}
_TINY = {
    "nfnet_pico": "--models nfnet_pico --batch-size 2 --size 16 --no-memory",
    "a name that does not exist": "--models nfnet_none --batch-size 2 --size 16",
}


def main(words: Sequence[str]) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--tiny", action="store_true", help="a few layers, two rounds")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/gpu.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/performance-gpu.md")
    options = parser.parse_args(words)

    from normfree.analysis.environment import environment
    from normfree.device import find_device

    find_device(options.device)
    plans, rounds = (_TINY, 2) if options.tiny else (_FULL, options.rounds)
    precision = "float32" if options.tiny else "bfloat16"
    common = ["--device", options.device, "--precision", precision, "--rounds", str(rounds)]
    runs = {name: measure([*plan.split(), *common]) for name, plan in plans.items()}
    network = "nfnet_pico" if options.tiny else "nfnet_f0"
    waits = steps_without_waiting(network, options.device, precision)
    command = " ".join(["python benchmarks/gpu.py", *words])
    found = {"benchmark": "gpu", **environment(), "command": command}
    found |= {"runs": [{"name": name, **run} for name, run in runs.items()], "waits": waits}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=2) + "\n")
    options.page.write_text("\n".join(page(found, options.json.name)) + "\n")


def measure(words: Sequence[str]) -> dict[str, Any]:
    """What ``normfree bench train`` finds; or ``failed``, its last line."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "found.json"
        command = [sys.executable, str(ROOT / "benchmarks/peers.py"), "train", *words]
        done = subprocess.run(
            [*command, "--json", str(file)], capture_output=True, text=True, check=False
        )
        print(done.stdout or done.stderr, flush=True)
        if file.exists():
            return dict(json.loads(file.read_text()))
    return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}


def steps_without_waiting(network: str, device: str, precision: Any) -> str:
    """Twenty steps in which an operation that waits for the device is an error."""
    import torch

    from normfree.analysis.training import Entry
    from normfree.analysis.training.step import build_step

    how = {"precision": precision, "device": device}
    step = build_step(Entry(network=network, by="normfree", batch_size=2, size=64, **how))
    step()  # the first one allocates
    if not device.startswith("cuda"):
        return "not applicable: there is no device to wait for"
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(SYNC_STEPS):
            step()
    except RuntimeError as error:
        return f"a step waits for the device: {error}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return f"{SYNC_STEPS} steps, none waited for the device"


def page(found: Mapping[str, Any], file: str) -> Iterator[str]:
    """The page, line by line; every number is from the file."""
    yield "# Performance on a GPU"
    yield ""
    where = found["accelerator"] or found["processor"]
    yield f"Measured on {where} with PyTorch {found['torch']} on {found['date']} by"
    yield f"`{found['command']}` (`benchmarks/results/{file}`). Medians; a step is forward and"
    yield "backward pass, clipping, update and average on tensors that are on the device."
    for run in found["runs"]:
        yield from ("", f"## {run['name']}", "")
        if "failed" in run:
            yield f"Not measured: {run['failed']}"
        else:
            yield from tables(run)
    yield from ("", "## Waiting for the device", "", f"{found['waits']}.")


if __name__ == "__main__":
    main(sys.argv[1:])
