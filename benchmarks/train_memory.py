"""Peak host memory of a training command, with its network, on the CPU.

    python benchmarks/train_memory.py benchmarks/results/DATE_train_memory.json --seconds 240 -- \
        imagenet_nfnet_f0 --data synthetic:8192x224x3x1000 --accumulate 128 --workers 16

The command is stopped after some seconds: micro-batches are alike, so memory has reached its peak
after a few of them. On a GPU the network and its activations are not in host memory. See
``loader_memory.py`` for how memory is counted.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.loader_memory import Peak
from normfree.analysis.environment import environment


def main() -> None:
    """Run, measure, stop, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the result file")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("words", nargs="+", help="after --: what follows `normfree train`")
    args = parser.parse_args()
    peak = Peak()
    with tempfile.TemporaryDirectory() as directory:
        place = ["--device", "cpu", "--out", f"{directory}/run"]
        command = [sys.executable, "-c", "from normfree.cli import main; main()", "train"]
        with subprocess.Popen([*command, *args.words, *place]) as process:
            peak.start()
            began = time.perf_counter()
            while time.perf_counter() - began < args.seconds and process.poll() is None:
                time.sleep(1)
            peak.stop.set()
            peak.join()
            ended = process.poll()
            process.send_signal(signal.SIGKILL)
    result = {
        "benchmark": "train_memory",
        **environment(),
        "command": " ".join(["normfree train", *args.words]),
        "seconds": args.seconds,
        "ended_by_itself": ended,
        "peak_gb": round(peak.total / 1e9, 2),
        **{name: round(value / 1e9, 2) for name, value in peak.at.items()},
        "processes": peak.processes,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"peak_gb": result["peak_gb"], "ended_by_itself": ended}))


if __name__ == "__main__":
    main()
